"""What is made, checked and measured, once each; and what a failed conversion stops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.core import registry
from edgekit.core.errors import Missing, ParityFailed
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.context import Outcome, RunContext
from edgekit.runs import named_sets
from edgekit.runs import recipe as recipes
from edgekit.runs.recipe import Gates, Recipe
from edgekit.runs.store import Store
from edgekit.workflows import run

pytestmark = pytest.mark.usefixtures("members")
QUICK = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=3)
TRAIN = {"step": "train", "model": "cnn", "epochs": 8, "batch": 32, "lr": 0.01}
Go = Callable[..., Outcome]


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


def recipe(*chains: tuple[str, list[Any]], on: tuple[str, ...] = ("null",)) -> Recipe:
    table = {"task": "bars", "targets": list(on), "chain": [{"name": n, "steps": s} for n, s in chains]}
    made, problems = recipes.check(table)
    assert made is not None, problems
    return dataclasses.replace(made, plan=QUICK)


@pytest.fixture
def go(bars_run: Path) -> Go:
    """Run a recipe in the bars run; `said` on the outcome's function holds what it told."""
    store = Store(bars_run)
    task = registry.load("tasks", "bars")()

    def call(made: Recipe, **changes: Any) -> Outcome:
        said: list[str] = []
        found = [targets.load(name) for name in made.targets]
        val = named_sets.load("bars:val")
        context = RunContext(store, task, found, made.plan, Gates(), val, task.score, quiet, said.append)
        for name, value in changes.items():
            setattr(context, name, value)
        with store.lock():
            outcome = run.make_and_measure(made, context, named_sets.load("bars:test"))
        outcome.said = said  # type: ignore[attr-defined]
        return outcome

    return call


def names(outcome: Outcome) -> list[str]:
    return [artifact.name for artifact in outcome.artifacts]


def test_everything_is_made_once_and_measured_on_every_target(go: Go) -> None:
    made = recipe(("", [TRAIN, "to_onnx", "onnx_int8"]), ("half", [TRAIN, "to_onnx", "onnx_fp16"]))
    outcome = go(made)
    assert names(outcome) == ["torch", "onnx", "onnx-int8", "half.onnx-fp16"]
    assert {(m.artifact, m.target, m.runtime) for m in outcome.measurements} == {
        (name, "null", "null") for name in names(outcome)
    }
    assert not outcome.failures
    assert len(outcome.findings) == 4
    again = go(made)
    assert again.reused == 8
    assert again.measurements == outcome.measurements


def test_the_root_is_verified_too_and_measured_against_nobody(go: Go) -> None:
    outcome = go(recipe(("", [TRAIN, "to_onnx"])))
    root, child = outcome.measurements
    assert (root.artifact, root.parents) == ("torch", ())
    assert root.metric is not None and root.metric.against is None
    assert child.metric is not None and child.metric.against == "torch"
    assert child.parents == ("torch",)


@pytest.mark.slow
def test_a_failed_conversion_stops_its_chain_only(go: Go) -> None:
    outcome = go(recipe(("", [TRAIN, "to_flipped", "onnx_int8"]), ("ok", [TRAIN, "to_onnx"]), on=("host",)))
    assert [type(failure) for failure in outcome.failures] == [ParityFailed]
    assert "onnx failed its check after to_flipped" in str(outcome.failures[0])
    assert "ok.onnx" in names(outcome)
    assert {m.artifact for m in outcome.measurements} == {"torch", "ok.onnx"}


def test_what_is_measured_twice_is_what_changed(go: Go) -> None:
    made = recipe(("", [TRAIN, "to_onnx"]))
    first = go(made)
    other = dataclasses.replace(made, plan=dataclasses.replace(QUICK, batch=2))
    second = go(other)
    assert {m.session for m in second.measurements}.isdisjoint({m.session for m in first.measurements})
    assert {m.key for m in go(made).measurements} == {m.key for m in first.measurements}, "the first ones are gone"


def test_invalid_measurements_are_made_again(go: Go, bars_run: Path) -> None:
    made = recipe(("", [TRAIN, "to_onnx"]))
    first = go(made)
    bad = dataclasses.replace(first.measurements[0], invalid=("CPU contention",))
    Store(bars_run).add(bad)
    again = go(made)
    assert again.measurements[0].session != first.measurements[0].session
    assert not again.measurements[0].invalid
    assert again.measurements[1] == first.measurements[1]


def test_what_a_device_computes_otherwise_is_not_measured_again(go: Go, bars_run: Path) -> None:
    made = recipe(("", [TRAIN, "to_onnx"]))
    first = go(made).measurements[0]
    facts = {**first.facts, "agreement": {"wrong": "11 dB"}}
    Store(bars_run).add(dataclasses.replace(first, facts=facts, invalid=("11 dB",)))
    assert go(made).measurements[0].session == first.session
    Store(bars_run).add(dataclasses.replace(first, facts=facts, invalid=("CPU contention", "11 dB")))
    assert go(made).measurements[0].session != first.session


def test_what_is_missing_is_said_before_any_work(go: Go, monkeypatch: pytest.MonkeyPatch, bars_run: Path) -> None:
    made = recipe(("new", [TRAIN, "to_onnx", "onnx_int8"]))
    monkeypatch.setattr("edgekit.workflows.make.tools", lambda step: dict.fromkeys(step.tools, ""))
    with pytest.raises(Missing) as error:
        go(made)
    assert "onnxruntime" in error.value.what and "torch" in error.value.what
    assert error.value.next == "pip install 'edgekit-toolkit[onnx,torch]'"
    assert not (bars_run / "new.torch").exists()


def test_a_field_that_names_an_artifact_makes_it_a_parent(go: Go, bars_run: Path) -> None:
    copy = {"step": "torch_copy", "teacher": "torch"}
    outcome = go(recipe(("", [TRAIN, "to_onnx"]), ("pupil", [{**TRAIN, "epochs": 1}, copy])))
    pupil = Store(bars_run).get("pupil.torch")
    assert {p.role: p.name for p in pupil.parents} == {"parent": "pupil.torch~train", "teacher": "torch"}
    assert pupil.details["roles"] == {"parent": "pupil.torch~train", "teacher": "torch"}
    assert "pupil.torch" in names(outcome)


def test_without_validation_samples_nothing_is_judged(go: Go) -> None:
    outcome = go(recipe(("", [TRAIN, "to_flipped"]), on=("null",)), val=None)
    assert not outcome.findings and not outcome.failures
    assert "onnx" in names(outcome)
