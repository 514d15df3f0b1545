"""Progress in lines of text, by a fake clock, and durations in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.core.progress import FIRST_LINE, duration, in_lines


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 s"),
        (6.2, "7 s"),
        (20, "20 s"),
        (41, "45 s"),
        (90, "90 s"),
        (91, "2 min"),
        (600, "10 min"),
        (5400, "90 min"),
        (5401, "1.6 h"),
        (7200, "2 h"),
    ],
)
def test_durations_are_rounded_up(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def lines(each: float, count: int, total: int | None) -> list[str]:
    """What is said of a loop whose items take so long each."""
    said: list[str] = []
    now = [50.0]
    for item in in_lines(range(count), "calibrating", total, said.append, lambda: now[0]):
        assert item == round((now[0] - 50.0) / each)
        now[0] += each
    return said


def test_a_short_loop_says_nothing() -> None:
    assert lines(0.1, 100, 100) == []
    assert lines(FIRST_LINE, 1, 1) == []


def test_a_long_loop_says_little_and_what_is_left() -> None:
    said = lines(10.0, 100, 100)
    assert said[0] == "  calibrating: 3 of 100, about 17 min left"
    assert said[1] == "  calibrating: 6 of 100, about 16 min left"
    assert len(said) == 6, "a line each time twice as much has passed"
    assert len(lines(10.0, 10_000, 10_000)) <= 13
    assert not any(character in line for line in said for character in "\r\x1b\n")


def test_without_a_total_only_what_was_done() -> None:
    assert lines(10.0, 10, None) == ["  calibrating: 3", "  calibrating: 6"]


def test_it_reads_no_further_than_asked() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(5):
            read.append(item)
            yield item

    taken = in_lines(items(), "reading", None, print, lambda: 0.0)
    next(taken)
    assert read == [0]
