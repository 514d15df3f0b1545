"""A device's outputs against this machine's, where what the device says is changed on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit import sets
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.statistics import MAX_DB
from edgekit.core.target import Plan, Target
from edgekit.measure import host_parity, measurements, targets, verify
from edgekit.measure.context import RunContext
from edgekit.measure.execute import execute
from edgekit.measure.host_parity import MIN_SQNR_DB, NO_SIGNAL_DB
from edgekit.runs import named_sets
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store

PLAN = Plan(processes=1, samples=64)
#: reached over ssh in name only: nothing here is sent to it
BOARD = Target("board", "", "ssh", runtimes={"onnxruntime": ""}, address="me@pi")


@pytest.mark.parametrize(
    ("noise", "invalid"),
    [(0.0, False), (0.01, False), (0.3, True), (np.nan, True)],
    ids=["same", "rounded otherwise", "11 dB", "NaN"],
)
def test_outputs_that_are_something_else_are_not_weighed(
    noise: float, invalid: bool, bars_made: Path, members: None
) -> None:
    store, said = Store(bars_made), list[str]()
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 64)
    here = execute(onnx, targets.load("host"), data, PLAN, latency=False)
    values = here.outputs["output"]
    random = np.random.default_rng(0).standard_normal(values.shape)
    there = (values + noise * np.sqrt(np.mean(values**2)) * random).astype(np.float32)
    context = RunContext(store, None, [BOARD], PLAN, Gates(), None, None, quiet, said.append)
    run = host_parity.compare_with_host(
        onnx, replace(here, target="board", outputs={"output": there}), BOARD, data, context
    )
    assert bool(run.invalid) == invalid and run.facts["agreement"]["samples"] == 64
    assert run.facts["agreement"]["bit_identical"] == (noise == 0) and said
    if invalid:
        assert "another runtime or precision" in run.invalid[0]


def test_classes_and_what_int8_disturbs_much_are_not_called_wrong(
    bars_made: Path, members: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(bars_made)
    int8, data = store.get("onnx-int8"), sets.take(named_sets.load("bars:test"), 64)
    values = execute(int8, targets.load("host"), data, PLAN, latency=False).outputs["output"]
    classes = values.argmax(1)
    assert host_parity._worst_sqnr({"output": classes}, {"output": classes[::-1]}) is None
    finding = verify.read(int8)
    assert finding and finding.parity
    for own, minimum in ((40.0, MIN_SQNR_DB), (12.0, 6.0)):
        checked = replace(finding, parity=replace(finding.parity, sqnr_db=own))
        monkeypatch.setattr(verify, "read", lambda _, checked=checked: checked)
        assert host_parity._min_sqnr(int8) == minimum
    monkeypatch.setattr(verify, "read", lambda _: None)
    assert host_parity._min_sqnr(int8) == NO_SIGNAL_DB, "an int8 model from elsewhere"
    assert host_parity._min_sqnr(store.get("onnx")) == MIN_SQNR_DB


def test_infinities_that_are_the_same_agree(bars_made: Path, members: None) -> None:
    store = Store(bars_made)
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 64)
    here = execute(onnx, targets.load("host"), data, PLAN, latency=False)
    masked = np.where(here.outputs["output"] < 0, -np.inf, here.outputs["output"])
    context = RunContext(store, None, [BOARD], PLAN, Gates(), None, None, quiet, lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_parity, "execute", lambda *_, **__: replace(here, outputs={"output": masked}))
        run = host_parity.compare_with_host(
            onnx, replace(here, target="board", outputs={"output": masked}), BOARD, data, context
        )
    assert not run.invalid and run.facts["agreement"]["bit_identical"]


def test_rows_that_change_places_are_no_other_computation() -> None:
    """A detector's list is sorted: where two scores are nearly equal, a rounding swaps whole rows of a sample."""
    random = np.random.default_rng(0)
    here = {"boxes": random.uniform(0, 100, (40, 20, 4)).astype(np.float32), "classes": np.ones((40, 20), np.float32)}
    there = {name: value * np.float32(1 + 1e-6) for name, value in here.items()}
    there["boxes"][:8, [0, 1]] = there["boxes"][:8, [1, 0]]
    there["classes"] = here["classes"] + (random.uniform(size=(40, 20)) < 0.1)
    found = host_parity._worst_sqnr(here, there)
    assert found and found > 100
    there["boxes"] = here["boxes"] + random.normal(0, 20, here["boxes"].shape).astype(np.float32)
    assert (host_parity._worst_sqnr(here, there) or 0.0) < 15


def test_nothing_against_nothing_and_infinities_at_the_same_places() -> None:
    logits = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    masked = np.where(logits < 0, -np.inf, logits)
    assert (host_parity._worst_sqnr({"y": masked}, {"y": masked * np.float32(1 + 1e-6)}) or 0.0) > 100
    assert host_parity._worst_sqnr({"y": masked}, {"y": logits}) == -MAX_DB
    nothing = np.zeros((8, 5), np.float32)
    assert host_parity._worst_sqnr({"y": nothing}, {"y": nothing + np.float32(1e-9)}) is None
    assert (host_parity._worst_sqnr({"y": nothing}, {"y": nothing + np.float32(0.5)}) or 0.0) < 0


def test_another_shape_is_no_answer_and_no_metric(bars_made: Path, members: None) -> None:
    store = Store(bars_made)
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 64)
    here = execute(onnx, targets.load("host"), data, PLAN, latency=False)
    there = replace(here, target="board", outputs={"output": here.outputs["output"][:, None]})
    context = RunContext(store, None, [BOARD], PLAN, Gates(), None, None, quiet, lambda _: None)
    run = host_parity.compare_with_host(onnx, there, BOARD, data, context)
    assert "the shape of output is" in run.invalid[0] and not run.facts["agreement"]["same_shapes"]
    context.scorer = lambda *_: pytest.fail("what has another shape cannot be scored")
    assert measurements._measurement(onnx, run, data, context, "session", "key", None, None).metric is None


def test_what_this_machine_cannot_run_is_not_compared(
    bars_made: Path, members: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = Store(bars_made), list[str]()
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 64)
    here = execute(onnx, targets.load("host"), data, PLAN, latency=False)

    def refused(*_: object, **__: object) -> None:
        raise InputError("cannot load onnx in onnxruntime", "opset 99")

    monkeypatch.setattr(host_parity, "execute", refused)
    context = RunContext(store, None, [BOARD], PLAN, Gates(), None, None, quiet, said.append)
    run = replace(here, target="board")
    assert host_parity.compare_with_host(onnx, run, BOARD, data, context) is run
    assert "not compared" in said[0] and "opset 99" in said[0]
