"""The time that measuring takes: estimated when every artifact has run once, announced, and kept.

A busy machine makes processes slower and has them repeated. So measuring ends at a limit, with the processes so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.core.measurement import Run
from edgekit.core.progress import duration

#: the limit: so many times the estimate, and at least so many seconds more, for short sessions on busy machines
MOST_TIMES, LEAST_MORE = 2.0, 20.0


class TimeLimit:
    """How long the timing processes of a session may take, in seconds from the announcement.

    `to_come`: how many of the planned processes of each pair of artifact and runtime have not run; `took`: the seconds
    of each pair's last process. `expected` is None, and there is no limit, if nothing can be estimated.
    """

    def __init__(self, pairs: int, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.processes, self.clock = processes, clock
        self.to_come, self.took = [processes] * pairs, [0.0] * pairs
        self.expected: float | None = None
        self.limit = math.inf
        self.reached = False
        self._started = clock()

    def start(self, outputs: float) -> None:
        """Set the limit, after one process of each pair. `outputs`: the seconds that computing all outputs takes."""
        self._started = self.clock()
        self.expected = outputs + self._left
        self.limit = max(MOST_TIMES * self.expected, self.expected + LEAST_MORE)

    @property
    def elapsed(self) -> float:
        return self.clock() - self._started

    @property
    def _left(self) -> float:
        return sum(count * seconds for count, seconds in zip(self.to_come, self.took, strict=True))

    def allows(self, pair: int) -> bool:
        """May this pair run another planned process? Each runs at least one."""
        if self.to_come[pair] < self.processes and self.elapsed + self.took[pair] > self.limit:
            self.reached = True
        return not self.reached

    def allows_repeat(self) -> bool:
        """Does repeating a process leave time for all that are planned?"""
        return self.elapsed + self._left <= self.limit

    def record(self, session: str, target: str, threads: int) -> Session:
        """What became of it, at its end."""
        limit = None if self.expected is None else round(self.limit, 1)
        expected = None if self.expected is None else round(self.expected, 1)
        seconds = round(self.elapsed, 1)
        pairs = len(self.to_come)
        return Session(session, target, threads, pairs, self.processes, expected, limit, seconds, self.reached)


@dataclass(frozen=True)
class Session:
    """What was announced of one session of measuring, and what became of it (`sessions` in the JSON's `result`).

    `artifacts` counts pairs of artifact and runtime, `processes` those planned of each. Times are in seconds from the
    announcement, `expected_seconds` and `limit_seconds` None if nothing could be estimated. `id`: the `session` of its
    measurements.
    """

    id: str
    target: str
    threads: int
    artifacts: int
    processes: int
    expected_seconds: float | None
    limit_seconds: float | None
    seconds: float
    limit_reached: bool


def announcement(artifacts: int, pairs: int, target: str, threads: int, limit: TimeLimit, sustained: float) -> str:
    """One line: how many processes on which target, and how long they take at most."""
    counted = f"{artifacts} artifact{'s' if artifacts > 1 else ''}"
    counted += f" ({pairs} with each runtime)" if pairs > artifacts else ""
    line = f"measuring {counted} x {limit.processes} process{'es' if limit.processes > 1 else ''} on {target}"
    line += f", {threads} threads" if threads > 1 else ""
    if limit.expected is None:
        line += ": emulated, so the time is not known beforehand"
    else:
        line += f": about {duration(limit.expected)}, at most {duration(limit.limit)}"
    return line + (f"; then {pairs} x {duration(sustained)} of sustained load" if sustained else "")


def disturbance_note(target: str, run: Run) -> str:
    """What other programs did to the session of this run, in a sentence; "" if nothing."""
    if run.contention:
        cut = f"; only {run.cut}" if run.cut else ""
        return f"{target} was busy ({run.contention}): the latencies are CPU times, which can be compared{cut}"
    return f"{target} was slower than announced: only {run.cut}" if run.cut else ""
