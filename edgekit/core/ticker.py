"""One line of a terminal that says what is being done, and the seconds that pass meanwhile.

It is written to a descriptor of its own: a converter whose output is muted (`core/mute`) has the place of stderr taken.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from edgekit.core.printable import printable

#: seconds until a stage is shown, and between two changes of the line
FIRST, EVERY = 2.0, 1.0
#: of a terminal that does not say how wide it is
COLUMNS = 80
_ERASE = "\r\x1b[K"


class Ticker:
    """Of one stream, which is a terminal. Stages may lie in each other: the line has the innermost, and its seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic, every: float = EVERY) -> None:
        self._stream, self._clock, self._every = stream, clock, every
        self._stages: list[tuple[str, float]] = []
        self._lock = threading.RLock()
        self._hidden, self._drawn, self._descriptor = 0, False, -1
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Show `what` until the block ends. Stages of several threads may overlap."""
        entry = what, self._clock()
        with self._lock:
            self._stages.append(entry)
            if self._thread is None:
                self._descriptor, self._over = os.dup(self._stream.fileno()), threading.Event()
                self._thread = threading.Thread(target=self._tick, args=(self._over,), daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._erase()
                self._stages.remove(entry)
                if not self._stages:
                    self._over.set()
                    self._thread = None
                    os.close(self._descriptor)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """No line while something else writes to the terminal."""
        with self._lock:
            self._erase()
            self._hidden += 1
        try:
            yield
        finally:
            with self._lock:
                self._hidden -= 1

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(self._every):
            with self._lock:
                if not over.is_set():
                    self._draw()

    def _draw(self) -> None:
        what, started = self._stages[-1]
        seconds = self._clock() - started
        if self._hidden or seconds < FIRST:
            return
        minutes, rest = divmod(int(seconds), 60)
        line = f"  {printable(what)}: " + (f"{minutes} min {rest} s" if minutes else f"{rest} s")
        self._write(_ERASE + line[: max(1, self._columns() - 1)])
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._write(_ERASE)
            self._drawn = False

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._descriptor).columns or COLUMNS
        except OSError:
            return COLUMNS

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a terminal that is gone ends no work
            os.write(self._descriptor, text.encode("utf-8", "replace"))
