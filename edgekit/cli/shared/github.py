"""What GitHub Actions shows of a command: annotations of its failures, and the job's summary.

GitHub's runner obeys lines of a job's output: those that begin with `::`, and any with `##[`. Names come from files and
devices, so in a job nothing is printed that it would take for one, except by `annotate`. Syntax and escapes:
https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO

from edgekit.core.errors import os_errors
from edgekit.core.printable import one_line

#: what the runner takes for a command
_COMMAND = re.compile(r"^(\s*:)(?=:)|(##)(?=\[)", re.MULTILINE)
#: GitHub shows no larger summary of a step
LARGEST_SUMMARY = 1 << 20


def is_job() -> bool:
    """Is this a job of GitHub Actions?"""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def inert(stream: TextIO) -> None:
    """A space breaks what would be a command in the text that is written to the stream from now on."""
    write = stream.write
    stream.write = lambda text: write(_COMMAND.sub(r"\g<0> ", text))  # type: ignore[method-assign]


def annotate(level: Literal["error", "warning", "notice"], title: str, message: str) -> None:
    """Show a message with the job, and nothing elsewhere."""
    if not is_job():
        return
    line = f"::{level} title={_escaped(title, ':,')}::{_escaped(message)}\n"
    with suppress(OSError, ValueError):  # a closed or full stderr
        sys.stderr.flush()
        sys.stderr.buffer.write(line.encode(errors="replace"))
        sys.stderr.buffer.flush()


def _escaped(text: str, more: str = "") -> str:
    """One line, with per cent and the characters `more` as %XX."""
    line = _COMMAND.sub(r"\g<0> ", one_line(text))
    return "".join(f"%{ord(character):02X}" if character in f"%{more}" else character for character in line)


def add_to_summary(text: str) -> str:
    """Append Markdown to the job's summary; returns why not, or "". Raises NoSpace, NoPermission or InputError."""
    path = Path(os.environ.get("GITHUB_STEP_SUMMARY", ""))
    if not (is_job() and path.is_file()):
        return "it has none"
    raw = text.encode(errors="replace")
    with os_errors("write", path):
        if path.stat().st_size + len(raw) > LARGEST_SUMMARY:
            return "it would be larger than GitHub shows"
        with path.open("ab") as file:
            file.write(raw)
    return ""
