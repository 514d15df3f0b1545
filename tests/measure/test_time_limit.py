"""How long measuring takes: the estimate, and the bound that a disturbed machine cannot exceed. The clock is a fake."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.core.device import Device
from edgekit.core.measurement import Run
from edgekit.core.target import Plan, Target
from edgekit.measure import targets
from edgekit.measure.execute import MOST_REPEATED, execute_all
from edgekit.measure.time_limit import LEAST_MORE, MOST_TIMES, TimeLimit, announcement, disturbance_note
from edgekit.sets.reading import sample_set

CALM = {"cpu_share": 1.0, "steal_share": 0.0, "throttled": 0, "load_average": 0.5}
BUSY = {**CALM, "cpu_share": 0.4}
START, INFERENCE, RUNS = 4.0, 0.1, 10
PROCESS = START + RUNS * INFERENCE
SAMPLES = 20
PLAN = Plan(processes=15)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Machine(Device):
    """Runs jobs in no time, and lets the clock go on. `state`: number of the process → (watch, how slow it is)."""

    provenance = "measured"

    def __init__(self, clock: Clock, state: Callable[[int], tuple[Mapping[str, Any], float]], threads: bool) -> None:
        self.clock, self.state, self.has_cpu_times = clock, state, threads
        self.jobs: list[tuple[str, bool]] = []

    def facts(self) -> Mapping[str, Any]:
        return {"cpu": "fake"}

    def run(self, job: Any, out: Path) -> Mapping[str, Any]:
        watch, slow = self.state(len(self.jobs))
        self.jobs.append((job.artifact.name, job.latency))
        result = {"error": None, "facts": {}, "outputs": {}}
        if not job.latency:
            self.clock.now += slow * (START + SAMPLES * INFERENCE)
            np.save(out / "y.npy", np.zeros((SAMPLES, 2)))
            return {**result, "outputs": {"y": str(out / "y.npy")}}
        self.clock.now += slow * PROCESS
        times = [int(slow * INFERENCE * 1e9)] * RUNS
        cpu = [int(INFERENCE * 1e9)] * RUNS if self.has_cpu_times else []
        more = {"first_ms": 1.0, "load_ms": 1.0, "warmups": 3, "peak_rss_bytes": 2, "floor_rss_bytes": 1}
        return {**result, **more, "times_ns": times, "cpu_ns": cpu, "watch": watch, "steady": True, "batch": 1}


class Measured(SimpleNamespace):
    runs: list[Run]
    limit: TimeLimit
    announced_after: int
    machine: Machine


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Measured]:
    """Measure artifacts on a machine of that state; returns the runs and the limit."""

    def call(
        state: Callable[[int], tuple[Mapping[str, Any], float]],
        names: str = "abc",
        plan: Plan = PLAN,
        outputs: bool = True,
        cpu_times: bool = True,
    ) -> Measured:
        clock = Clock()
        machine = Machine(clock, state, cpu_times)
        monkeypatch.setattr(targets, "device", lambda _: machine)
        data = sample_set("d", {"x": np.zeros((SAMPLES, 3), np.float32)}, None)
        pairs: Any = [(SimpleNamespace(name=name, inputs=()), "onnxruntime") for name in names]
        result = Measured()

        def announce(limit: TimeLimit) -> None:
            result.limit, result.announced_after = limit, len(machine.jobs)

        target = Target("board", "", "local")
        result.runs = execute_all(pairs, target, data, plan, outputs=outputs, announce=announce, clock=clock)
        result.machine = machine
        return result

    return call


def test_on_an_idle_machine_it_takes_what_was_announced(measured: Callable[..., Measured]) -> None:
    done = measured(lambda _: (CALM, 1.0))
    assert done.announced_after == 3, "after one process of each"
    expected = 3 * (14 * PROCESS + START + RUNS * INFERENCE + SAMPLES * INFERENCE)
    assert done.limit.expected == pytest.approx(expected)
    assert done.limit.elapsed == pytest.approx(3 * (14 * PROCESS + START + SAMPLES * INFERENCE))
    assert not done.limit.reached and not any(run.cut or run.contention for run in done.runs)
    assert [len(run.processes) for run in done.runs] == [15] * 3
    assert done.machine.jobs == [
        *[(name, True) for name in "abc"],
        *[(name, False) for name in "abc"],
        *[(name, True) for _ in range(14) for name in "abc"],
    ]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cpu_times", [True, False])
@pytest.mark.parametrize("since", [0, 3, 20])
@pytest.mark.parametrize("slow", [1.0, 4.0, 50.0])
def test_a_disturbed_machine_ends_within_the_limit(
    measured: Callable[..., Measured], threads: int, cpu_times: bool, since: int, slow: float
) -> None:
    """Disturbed for good since some process, and slower: it ends within the limit and one process."""
    plan = dataclasses.replace(PLAN, threads=threads)
    done = measured(lambda job: (CALM, 1.0) if job < since else (BUSY, slow), plan=plan, outputs=False)
    assert done.limit.elapsed <= done.limit.limit + slow * PROCESS
    counts = {len(run.processes) for run in done.runs}
    assert len(counts) == 1 and 1 <= counts.pop() <= 15, "as many of each: the i-th are compared"
    if slow == 1:
        assert [len(run.processes) for run in done.runs] == [15] * 3, "repetitions take no time from what was planned"
    if done.limit.reached:
        assert all("processes in" in run.cut for run in done.runs)
    if threads == 1 and cpu_times:
        assert {run.clock for run in done.runs} == {"cpu"} and not any(run.invalid for run in done.runs)


def test_a_bursts_repetitions_leave_wall_times(measured: Callable[..., Measured]) -> None:
    done = measured(lambda job: (BUSY, 2.0) if job in (0, 8, 9) else (CALM, 1.0))
    assert {run.clock for run in done.runs} == {"wall"} and not any(run.invalid or run.cut for run in done.runs)
    assert len(done.machine.jobs) == 3 * 16 + 3
    assert all(times == (int(INFERENCE * 1e9),) * RUNS for run in done.runs for times in [run.processes[0].times_ns])


def test_once_cpu_times_are_taken_nothing_is_repeated(measured: Callable[..., Measured]) -> None:
    """Of twenty artifacts, too: the repetitions of a session that is disturbed for good are as many as those of one."""
    done = measured(lambda _: (BUSY, 1.0), names="abcdefghijklmnopqrst", outputs=False)
    firsts = 20
    assert len(done.machine.jobs) == firsts + 20 * 15 + MOST_REPEATED - 1
    assert {run.clock for run in done.runs} == {"cpu"}


def test_what_was_disturbed_is_not_called_valid_if_a_cpu_time_is_missing(
    measured: Callable[..., Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(job: int) -> tuple[Mapping[str, Any], float]:
        machine = targets.device(None)  # type: ignore[arg-type]
        machine.has_cpu_times = job % 2 == 0  # type: ignore[attr-defined]
        return (BUSY if job >= 2 and job % 2 == 0 else CALM), 1.0

    done = measured(state, names="ab", outputs=False)
    assert {run.clock for run in done.runs} == {"wall"}
    assert done.runs[0].invalid and "CPU contention" in done.runs[0].invalid[0]


def test_the_limit_is_a_multiple_with_room_for_short_sessions() -> None:
    clock = Clock()
    for processes, seconds in ((5, 0.5), (100, 3.0)):
        limit = TimeLimit(2, processes, clock)
        for pair in range(2):
            assert limit.allows(pair) and limit.allows_repeat()
            limit.took[pair] = seconds
            limit.to_come[pair] -= 1
        limit.start(outputs=7.0)
        expected = 7.0 + 2 * (processes - 1) * seconds
        assert limit.expected == expected
        assert limit.limit == max(MOST_TIMES * expected, expected + LEAST_MORE)
        clock.now += limit.limit - 2 * seconds
        assert limit.allows(0) and not limit.allows_repeat() and not limit.reached
        clock.now += 1.5 * seconds
        assert not limit.allows(1) and limit.reached
        assert limit.record("s", "board", 2).limit_reached


def test_the_lines() -> None:
    clock = Clock()
    limit = TimeLimit(6, 15, clock)
    assert announcement(6, 6, "pi", 1, limit, 0.0).endswith("on pi: emulated, so the time is not known beforehand")
    limit.took, limit.to_come = [0.5] * 6, [14] * 6
    limit.start(outputs=0.0)
    line = announcement(6, 6, "host", 1, limit, 0.0)
    assert line == "measuring 6 artifacts x 15 processes on host: about 45 s, at most 85 s"
    line = announcement(1, 6, "host", 4, limit, 600.0)
    assert "1 artifact (6 with each runtime) x 15 processes on host, 4 threads:" in line
    assert line.endswith("; then 6 x 10 min of sustained load")
    run: Any = SimpleNamespace(contention="", cut="")
    assert disturbance_note("host", run) == ""
    run.cut = "4 of 15 processes in 85 s"
    assert disturbance_note("host", run) == "host was slower than announced: only 4 of 15 processes in 85 s"
    run.contention = "steal time"
    assert disturbance_note("host", run).endswith("CPU times, which can be compared; only 4 of 15 processes in 85 s")
