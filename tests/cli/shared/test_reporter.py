"""What a terminal shows of a long step, and that --json, -q and a pipe show nothing of it."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from edgekit.cli.shared import Reporter
from edgekit.core import ticker
from edgekit.core.progress import stage


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal, and a function that reads what was written to it."""
    mine, theirs = pty.openpty()
    stream: TextIO = os.fdopen(theirs, "w", encoding="utf-8")
    monkeypatch.setattr(ticker, "FIRST", 0.0)

    def read() -> str:
        text = ""
        while select.select([mine], [], [], 0.1)[0]:
            text += os.read(mine, 4096).decode()
        return text

    yield stream, read
    stream.close()
    os.close(mine)


def shown(terminal: tuple[TextIO, Callable[[], str]], **options: bool) -> str:
    stream, read = terminal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)  # here: pytest has its own in each phase of a test
        reporter = Reporter(**options)
        with stage(reporter.progress, "to_onnx onnx"):
            time.sleep(1.5 * ticker.EVERY)
            reporter.say("  note      one")
    return read()


def test_a_terminal_shows_the_seconds_of_a_long_step(terminal: tuple[TextIO, Callable[[], str]]) -> None:
    line = "\r\x1b[K  to_onnx onnx: 1 s\r\x1b[K  note      one\r\n"
    assert shown(terminal, quiet=False, ticking=True) == line


def test_with_json_it_does_not(terminal: tuple[TextIO, Callable[[], str]]) -> None:
    assert shown(terminal, quiet=False, ticking=False) == "  note      one\r\n"


def test_with_q_it_does_not(terminal: tuple[TextIO, Callable[[], str]]) -> None:
    assert shown(terminal, quiet=True, ticking=True) == ""


def test_what_is_no_terminal_gets_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(False, ticking=True)
    with stage(reporter.progress, "to_onnx onnx"):
        reporter.say("  note      one")
    assert capsys.readouterr().err == "  note      one\n"
