"""The line of a long step, on a terminal of the test's own."""

from __future__ import annotations

import logging
import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.core import ticker
from edgekit.core.mute import muted
from edgekit.core.progress import Progress, in_lines, quiet, stage
from edgekit.core.ticker import Ticker


class Screen:
    """What reaches a terminal."""

    def __init__(self) -> None:
        self._mine, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")

    def read(self, until: str = "", seconds: float = 5.0) -> str:
        """What was written, up to `until`; else all of it."""
        text = ""
        while not (until and until in text) and select.select([self._mine], [], [], seconds if until else 0.2)[0]:
            text += os.read(self._mine, 4096).decode()
        return text

    def close(self) -> None:
        self.stream.close()
        os.close(self._mine)


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


def test_the_innermost_stage_is_shown_with_its_seconds_and_erased(screen: Screen) -> None:
    now = [10.0]
    shown = Ticker(screen.stream, lambda: now[0], every=0.01)
    with shown.stage("to_onnx onnx"):
        now[0] += 12
        assert "to_onnx onnx: 12 s" in screen.read("12 s")
        with shown.stage("verifying\x1b[2Jonnx"):
            now[0] += 65
            text = screen.read("1 min 5 s")
            assert "verifying\ufffd[2Jonnx: 1 min 5 s" in text and "\x1b[2J" not in text
        assert "to_onnx onnx: 1 min 17 s" in screen.read("17 s")
    assert screen.read().endswith("\r\x1b[K")


def test_a_short_stage_shows_nothing(screen: Screen) -> None:
    shown = Ticker(screen.stream, lambda: 5.0, every=0.01)
    with shown.stage("to_onnx onnx"):
        time.sleep(0.1)
    assert screen.read() == ""


def test_it_gives_way_to_what_else_is_written(screen: Screen) -> None:
    now = [0.0]
    shown = Ticker(screen.stream, lambda: now[0], every=0.01)
    with shown.stage("gptq torch~gptq"):
        now[0] += 3
        screen.read("3 s")
        with shown.hidden():
            screen.stream.write("a line\n")
            screen.stream.flush()
            time.sleep(0.1)
            text = screen.read("line\r\n")
            assert text.endswith("\r\x1b[Ka line\r\n")
        assert "gptq torch~gptq: 3 s" in screen.read("3 s")


def test_a_muted_converter_does_not_take_its_place(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = os.dup(2)
    os.dup2(screen.stream.fileno(), 2)
    monkeypatch.setattr(sys, "stderr", os.fdopen(2, "w", closefd=False))
    monkeypatch.setattr(ticker, "FIRST", 0.0)
    try:
        shown = Ticker(sys.stderr, every=0.01)
        with shown.stage("to_tflite tflite"), muted(logging.getLogger("converter"), native=True):
            os.write(2, b"noise")
            text = screen.read("to_tflite tflite: 0 s")
        assert "to_tflite tflite: 0 s" in text and "noise" not in text
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_no_descriptor_stays_open(screen: Screen) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    shown = Ticker(screen.stream, every=0.01)
    for _ in range(5):
        with pytest.raises(ValueError), shown.stage("a"), shown.stage("b"):
            raise ValueError
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("progress", [quiet, lambda items, what, total: in_lines(items, what, total, print)])
def test_a_stage_is_a_loop_of_one_item(progress: Progress) -> None:
    with pytest.raises(ZeroDivisionError), stage(progress, "to_onnx onnx"):
        _ = 1 / 0
    with stage(progress, "to_onnx onnx"):
        pass
