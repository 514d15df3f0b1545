"""Untrusted text (names in files, answers of devices, messages of libraries) made safe to show.

A terminal obeys escape codes and control characters, a bidirectional override reorders what is read, and a line break
in a name forges a line of a log. Unicode counts all of these as not printable.
"""

from __future__ import annotations

import logging


def printable(text: str) -> str:
    """A name on one line: what is not printable (Unicode's categories C and Z, except the space) becomes U+FFFD."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def one_line(message: str) -> str:
    """A message, which may have line breaks and tabs of its own, on one line; the rest as `printable` has it."""
    return printable(" ".join(message.expandtabs(4).splitlines()))


class LogFormatter(logging.Formatter):
    """Further lines of a record (a traceback's) are indented: none looks like a record (`runs.written.LOG_LINE`)."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).expandtabs(4).splitlines()
        return "\n    ".join(map(printable, lines))
