"""Several targets: those elsewhere at the same time, this machine alone and last, the order as it was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.core import metrics
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.progress import quiet
from edgekit.core.target import Plan, Target
from edgekit.measure import measurements, parallel
from edgekit.measure.context import RunContext
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store

ELSEWHERE = [Target(name, "", "ssh", address=name) for name in ("a", "b", "c")]
HOST = Target("host", "", "local")
Measure = Callable[..., None]


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., RunContext]:
    """Measure with a stand-in for the pipeline's own; returns the flow with its outcome."""

    def call(measure: Measure, targets: list[Target], plans: list[Plan] | None = None) -> RunContext:
        monkeypatch.setattr(measurements, "measure", measure)
        context = RunContext(
            Store(tmp_path), None, targets, Plan(), Gates(), None, metrics.scorer, quiet, lambda _: None
        )
        parallel.measure([], targets, None, context, plans or [Plan()], reuse=False)  # type: ignore[arg-type]
        return context

    return call


def test_those_elsewhere_at_once_this_machine_alone(go: Callable[..., RunContext]) -> None:
    together = threading.Barrier(len(ELSEWHERE), timeout=20)
    running: set[str] = set()
    seen: list[tuple[str, frozenset[str]]] = []

    def measure(_: Any, target: Target, __: Any, context: RunContext, *, reuse: bool) -> None:
        running.add(target.name)
        if target.device == "ssh":
            together.wait()  # breaks where they are not all here
        seen.append((target.name, frozenset(running)))
        running.discard(target.name)
        context.outcome.measurements.append(SimpleNamespace(target=target.name))  # type: ignore[arg-type]

    context = go(measure, [HOST, *ELSEWHERE])
    assert seen[-1] == ("host", frozenset({"host"}))
    assert [m.target for m in context.outcome.measurements] == ["host", "a", "b", "c"]


def test_one_that_fails_ends_only_its_own(go: Callable[..., RunContext]) -> None:
    asked: list[tuple[str, int]] = []

    def measure(_: Any, target: Target, __: Any, context: RunContext, *, reuse: bool) -> None:
        asked.append((target.name, context.plan.threads))
        if target.name == "b":
            raise DeviceError("b is off")
        if target.name == "c":
            raise InputError("c cannot load it")

    context = go(measure, [*ELSEWHERE, HOST], [Plan(threads=1), Plan(threads=2)])
    assert [error.code for error in context.outcome.failures] == [4, 2]
    assert sorted(asked) == [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("host", 1), ("host", 2)]


def test_what_is_wrong_here_is_raised(go: Callable[..., RunContext]) -> None:
    def measure(_: Any, target: Target, __: Any, context: RunContext, *, reuse: bool) -> None:
        raise (InputError if target.device == "local" else DeviceError)(target.name)

    with pytest.raises(InputError, match="host"):
        go(measure, [ELSEWHERE[0], HOST])


def test_a_bug_is_not_taken_for_a_device_that_failed(go: Callable[..., RunContext]) -> None:
    def measure(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        go(measure, [ELSEWHERE[0]])
