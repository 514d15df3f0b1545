"""`make bench-busy`: the ranking and the time of a measurement beside four busy loops, compared with an idle machine.

python tests/benchmarks/busy.py RUN    # a run folder with several artifacts, such as that of `edgekit run mnist`

Start it on an idle machine. It measures the run's artifacts once as they are, then ten times beside four processes that
do nothing but compute, and prints Kendall's tau of each ranking with the idle one, and how many times as long it took.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.target import PRESETS, Plan, Target
from edgekit.measure import targets
from edgekit.measure.execute import execute_all, runtimes_for
from edgekit.runs.store import Store
from edgekit.workflows.setup import random_inputs

LOOPS, RUNS = 4, 10
#: latencies nearer to each other than this have no order to get right
TIED = 0.03


@contextmanager
def busy(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measured(store: Store, artifacts: list[Artifact], host: Target) -> tuple[list[float], float, str]:
    """p50 of each artifact in milliseconds, the seconds that it took, and the clock."""
    plan = Plan(**PRESETS["quick"])
    pairs = [(artifact, runtimes_for(artifact, host)[0]) for artifact in artifacts]
    started = time.monotonic()
    runs = execute_all(pairs, host, random_inputs(store, artifacts[0], None), plan, outputs=False)
    seconds = time.monotonic() - started
    reasons = [reason for run in runs for reason in run.invalid]
    times = [statistics.latency(run.processes, 1, 1, run.clock).p50 for run in runs]
    return times, seconds, f"invalid: {reasons[0]}" if reasons else runs[0].clock


def tau(first: list[float], second: list[float]) -> float:
    """Kendall's, over the pairs that the first does not tie."""
    pairs = [(i, j) for i, j in combinations(range(len(first)), 2) if abs(first[i] / first[j] - 1) > TIED]
    agreed = sum((first[i] < first[j]) == (second[i] < second[j]) for i, j in pairs)
    return (2 * agreed - len(pairs)) / len(pairs)


def main(folder: str) -> None:
    store, host = Store(Path(folder)), targets.load("host")
    artifacts = [a for a in store.current() if a.kind.is_model and runtimes_for(a, host) and a.kind.format != "torch"]
    idle, seconds, clock = measured(store, artifacts, host)
    print(f"{'idle':>6}  {clock:6} {seconds:6.1f} s  {dict(zip([a.name for a in artifacts], idle, strict=True))}")
    for index in range(RUNS):
        with busy(LOOPS):
            times, took, clock = measured(store, artifacts, host)
        print(
            f"{index:>6}  {clock:6} {took:6.1f} s  {took / seconds:4.1f} times  tau {tau(idle, times):.2f}", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1])
