"""A conversion that fails its check is stopped and named, with its evidence; the others continue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import QUICK_PLAN, Ended

from edgekit import sets
from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import BudgetMissed, ParityFailed
from edgekit.core.measurement import Run
from edgekit.core.target import Plan
from edgekit.measure import targets, verify
from edgekit.measure.verify import EVIDENCE, EVIDENCE_SAMPLES, FINDING, Verifier
from edgekit.runs import named_sets
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store

BROKEN = """
task = "bars"

[train]
model = "cnn"
epochs = 8
batch = 32
lr = 0.01

[[chain]]
steps = ["train", "to_onnx", "onnx_int8"]

[[chain]]
name = "flipped"
steps = ["train", "to_flipped", "onnx_int8"]

[[chain]]
name = "wrecked"
steps = ["train", "to_onnx", "onnx_wrecked"]

[[chain]]
name = "nan"
steps = ["train", "to_onnx", "onnx_nan"]
"""


@pytest.fixture
def broken(bars_run: Path, cli: Callable[..., Ended], tmp_path: Path) -> Callable[[], Ended]:
    """Run the recipe whose chains break, in a folder where the sound chain is made already."""
    (tmp_path / "broken.toml").write_text(BROKEN + QUICK_PLAN)
    return lambda: cli("run", "broken.toml", "--out", bars_run, "--json")


def test_failed_conversions_are_stopped_and_named(broken: Callable[[], Ended], bars_run: Path) -> None:
    ended = broken()
    document = ended.json
    assert ended.code == 1
    assert "Traceback" not in ended.err
    said = {problem["where"]: problem["what"] for problem in document["problems"]}
    assert set(said) == {
        "flipped.onnx failed its check after to_flipped",
        "wrecked.onnx-int8 failed its check after onnx_wrecked",
        "nan.onnx-fp16 failed its check after onnx_nan",
    }
    assert "SQNR against torch is" in said["flipped.onnx failed its check after to_flipped"]
    assert "at least 60 dB is required" in said["flipped.onnx failed its check after to_flipped"]
    assert "points below torch (budget missed)" in said["wrecked.onnx-int8 failed its check after onnx_wrecked"]
    assert "NaN" in said["nan.onnx-fp16 failed its check after onnx_nan"]
    for what in said:
        assert what in ended.err
    assert document["error"]["code"] == 1
    measured = {m["artifact"] for m in document["measurements"]}
    assert {"torch", "onnx", "onnx-int8"} <= measured, "the sound chain did not go on"
    assert "flipped.onnx" not in measured
    assert "nan.onnx-fp16" not in measured
    assert not (bars_run / "flipped.onnx-int8").exists(), "its chain was not stopped"
    missed = [m for m in document["measurements"] if m["artifact"] == "wrecked.onnx-int8"]
    assert [m["verdict"]["state"] for m in missed] == ["missed"], "the best attempt is kept, and says so"
    again = broken()
    assert again.code == 1
    assert {p["where"] for p in again.json["problems"]} == set(said), "the second time it was let pass"
    evidence_is_kept(bars_run)


def evidence_is_kept(bars_run: Path) -> None:
    for name in ("flipped.onnx", "wrecked.onnx-int8", "nan.onnx-fp16"):
        with np.load(bars_run / name / EVIDENCE, allow_pickle=False) as kept:
            index, inputs, got = kept["index"], kept["input_input"], kept["got_output"]
            assert len(index) == len(inputs) == len(got) == EVIDENCE_SAMPLES
            assert inputs.shape == (EVIDENCE_SAMPLES, 1, 20, 20)
            assert "expected_output" in kept
    with np.load(bars_run / "flipped.onnx" / EVIDENCE) as kept:
        error = np.abs(kept["expected_output"] - kept["got_output"]).max(axis=1)
        assert (np.diff(error) <= 1e-6).all(), "the worst come first"
        assert error[0] > 1
    finding = json.loads((bars_run / "flipped.onnx" / FINDING).read_text())
    assert finding["failed"] == "parity"
    assert finding["parity"]["sqnr_db"] < 20
    assert not (bars_run / "onnx" / EVIDENCE).exists()


@pytest.fixture
def verifier(members: None, bars_run: Path) -> Callable[..., Verifier]:
    task: Any = registry.load("tasks", "bars")()

    def make(gates: Gates = Gates(), scorer: Any = task.score, target: str = "host") -> Verifier:  # noqa: B008
        return Verifier(Store(bars_run), targets.load(target), named_sets.load("bars:val"), scorer, gates, Plan())

    return make


def test_what_was_run_on_all_samples_is_not_run_again_on_half_of_them(
    verifier: Callable[..., Verifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = verifier()
    model, int8 = whole.store.get("onnx"), whole.store.get("onnx-int8")
    expected = whole.outputs(model)["output"]
    ran: list[str] = []
    execute = verify.execute

    def counted(artifact: Artifact, *words: Any, **settings: Any) -> Run:
        ran.append(artifact.name)
        return execute(artifact, *words, **settings)

    monkeypatch.setattr(verify, "execute", counted)
    for half, rows in zip(sets.halves(whole.data), (sets.FIRST_HALF, sets.SECOND_HALF), strict=True):
        part = Verifier(whole.store, whole.target, half, whole.scorer, whole.gates, whole.plan)
        alone = part.check(int8, "accuracy", model)
        assert alone.on.endswith(f"half {rows.start + 1}"), "a check of the whole set is none of its half"
        (int8.path / FINDING).unlink()
        part = Verifier(whole.store, whole.target, half, whole.scorer, whole.gates, whole.plan)
        part.reuse(whole, rows)
        ran.clear()
        assert part.check(int8, "accuracy", model) == alone
        assert ran == ["onnx-int8"]
        np.testing.assert_array_equal(part.outputs(model)["output"], expected[rows])
    one = sets.take(whole.data, 1)
    first = Verifier(whole.store, whole.target, one, whole.scorer, whole.gates, whole.plan)
    first.outputs(model)
    for rows in (sets.FIRST_HALF, sets.SECOND_HALF):
        again = Verifier(whole.store, whole.target, one, whole.scorer, whole.gates, whole.plan)
        again.reuse(first, rows)
        assert len(again.outputs(model)["output"]) == 1


def test_what_an_exporter_promises(verifier: Callable[..., Verifier], bars_run: Path) -> None:
    checker = verifier(Gates(min_sqnr_db=60))
    artifact = checker.store.get("onnx")
    finding = checker.check(artifact, "outputs")
    assert not finding.failed and finding.error() is None
    assert finding.parity is not None
    assert finding.parity.against == "torch"
    assert finding.parity.sqnr_db > 100
    assert finding.parity.max_abs < 1e-3
    assert finding.parity.top1_agreement == 1
    assert finding.parity.samples == 300
    assert finding.metric is not None and finding.metric.drop_pp == 0
    assert finding.verdict is None, "an exporter has no budget"
    checker.gates = Gates(min_sqnr_db=250)
    stricter = checker.check(artifact, "outputs")
    assert stricter.failed == "parity"
    assert isinstance(stricter.error(), ParityFailed)
    assert stricter.error().code == 1  # type: ignore[union-attr]
    assert "onnx failed its check after to_onnx" in str(stricter.error())


def test_what_a_compressor_promises(verifier: Callable[..., Verifier]) -> None:
    checker = verifier(Gates(max_drop_pp=50))
    artifact = checker.store.get("onnx-int8")
    finding = checker.check(artifact, "accuracy")
    assert not finding.failed
    assert finding.verdict is not None and finding.verdict.state == "met"
    assert finding.metric is not None and finding.metric.against == "torch", (
        "paired with the float root, not the parent"
    )
    assert finding.parity is not None and finding.parity.against == "onnx"
    checker.gates = Gates(max_drop_pp=-50)
    missed = checker.check(artifact, "accuracy")
    assert missed.failed == "budget"
    assert isinstance(missed.error(), BudgetMissed)
    checker.gates = Gates(max_drop_pp=0.5)
    undecided = checker.check(artifact, "accuracy")
    assert undecided.verdict is not None and undecided.verdict.state == "undecided"
    assert not undecided.failed
    checker.gates = Gates(max_drop_pp=0.5, strict=True)
    strict = checker.check(artifact, "accuracy")
    assert strict.failed == "budget"
    assert "undecided" in strict.reason


def test_a_finding_is_kept_while_nothing_changes(
    verifier: Callable[..., Verifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    checker = verifier()
    artifact = checker.store.get("onnx")
    first = checker.check(artifact, "outputs")
    assert verify.read(artifact) == first
    assert verify.read(replace(artifact, id="another")) is None
    with monkeypatch.context() as patch:
        patch.setattr(Verifier, "_check", lambda *_: pytest.fail("checked again"))
        assert verifier().check(artifact, "outputs") == first
    (artifact.path / FINDING).write_text("{")
    assert verify.read(artifact) is None
    assert verifier().check(artifact, "outputs") == first


def test_without_a_scorer_only_parity_is_judged(verifier: Callable[..., Verifier]) -> None:
    checker = verifier(scorer=None)
    finding = checker.check(checker.store.get("onnx-int8"), "accuracy")
    assert finding.metric is None and finding.verdict is None and not finding.failed
    assert finding.parity is not None and finding.parity.sqnr_db > 20


def test_unverified_where_the_target_would_saturate(verifier: Callable[..., Verifier]) -> None:
    """A scheme that this target's instructions clip is not judged by it."""
    checker = verifier()
    artifact = replace(checker.store.get("onnx-int8"), scheme="u8s8 per-channel QDQ")
    for arch, isa, expected in (
        ("x86_64", ("avx2",), True),
        ("x86_64", ("avx2", "avx512_vnni"), False),
        ("aarch64", (), False),
    ):
        target = replace(checker.target, arch=arch, isa=isa)
        assert verify.saturates(artifact, target) is expected
        assert not verify.saturates(replace(artifact, scheme="u8s8-reduced per-channel QDQ"), target)
        signed = replace(artifact, scheme="s8s8 per-channel QDQ")
        assert verify.saturates(signed, target) is expected
        assert not verify.saturates(replace(signed, kind=Kind("tflite", signed.kind.traits)), target)
    checker.target = replace(checker.target, arch="x86_64", isa=("avx2",))
    (artifact.path / FINDING).unlink(missing_ok=True)
    finding = checker.check(artifact, "accuracy")
    assert "saturates" in finding.unverified
    assert not finding.failed


def test_unverified_where_no_runtime_takes_it(verifier: Callable[..., Verifier]) -> None:
    checker = verifier()
    checker.target = replace(checker.target, runtimes={"torch": ""})
    finding = checker.check(checker.store.get("onnx"), "outputs")
    assert "no runtime for onnx on host" in finding.unverified
