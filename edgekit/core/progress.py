"""Progress of long loops, and how durations are written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")

#: seconds before the first line about a loop; the next lines come when twice as much time has passed, and so on
FIRST_LINE = 30.0


class Progress(Protocol):
    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]: ...


def quiet(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Progress that shows nothing."""
    yield from items


@contextmanager
def stage(progress: Progress, what: str) -> Iterator[None]:
    """A long step without a loop of its own, as one of a single item, of which terminals show the seconds that pass."""
    step = progress((None,), what, 1)
    next(step)
    try:
        yield
    finally:
        next(step, None)


def in_lines(
    items: Iterable[T],
    what: str,
    total: int | None,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Progress in a few lines of text, for what is not a terminal; none of a loop that is over within FIRST_LINE."""
    started, due = clock(), FIRST_LINE
    for done, item in enumerate(items):
        elapsed = clock() - started
        if done and elapsed >= due:
            due = 2 * elapsed
            left = f" of {total}, about {duration(elapsed / done * (total - done))} left" if total else ""
            say(f"  {what}: {done}{left}")
        yield item


def duration(seconds: float) -> str:
    """A duration in words, rounded up to what is worth saying: "7 s", "45 s", "4 min", "1.5 h"."""
    if seconds <= 20:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds <= 90:
        return f"{5 * math.ceil(seconds / 5)} s"
    if seconds <= 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 360) / 10:g} h"
