"""What a file or a device says cannot steer a terminal, or forge a line of a log."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.printable import LogFormatter, one_line, printable


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J",
        "\x1b]8;;https://x\x07",
        "\x9b31m",
        "a\x7fb",
        "a\rb",
        "a\nb",
        "a\u202eb",
        "a\u2066b",
        "a\u2028b",
        "a\u200bb",
        "a\udc80b",
    ],
)
def test_what_is_not_printable_is_replaced(text: str) -> None:
    assert printable(text).isprintable() and "\ufffd" in printable(text)
    assert len(printable(text)) == len(text)


def test_names_of_any_language_stay() -> None:
    assert printable("Größe 猫 кот 🐈 e\u0301") == "Größe 猫 кот 🐈 e\u0301"


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()


def test_the_lines_of_a_message_are_joined() -> None:
    assert one_line("  cannot read:\n\tbroken\r\nfile") == "  cannot read:     broken file"


def test_a_record_cannot_forge_another() -> None:
    record = logging.LogRecord("edgekit", logging.INFO, "", 0, "%s", ("a\n2026-01-01 ERROR \x1b[31mb",), None)
    assert LogFormatter("INFO %(message)s").format(record) == "INFO a\n    2026-01-01 ERROR \ufffd[31mb"
