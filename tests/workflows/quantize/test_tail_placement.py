"""A detector's boxes and scores leave through one concatenation, which stays in float."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Kept
from typing import Any

import numpy as np
import pytest
import small_detector
from numpy.typing import NDArray

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Ratio
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set
from edgekit.workflows.inspect.output_tail import NO_OPERATORS
from edgekit.workflows.quantize import method_search, quantize, tail_placement
from edgekit.workflows.quantize.tail_placement import TailPlacement

pytest.importorskip("onnxruntime")
for needed in ("openvino", "nncf", "litert_torch"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.usefixtures("brief_search")
SLOWER = Ratio(1.2, (1.15, 1.25))


def samples(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, 3, 8, 8)).astype(np.float32)


def quantized(folder: Path, format: str, **detector: bool) -> tuple[Artifact, list[str]]:
    """What `quantize` makes of the detector by min-max ranges, and what it says."""
    np.savez(folder / "calibration.npz", x=samples(64))
    np.savez(folder / "val.npz", x=samples(40))
    said: list[str] = []
    sets = {name: str(folder / f"{name}.npz") for name in ("calibration", "val")}
    outcome = quantize(
        str(small_detector.save(folder / "m.onnx", **detector)),
        to=[format],
        methods=("min-max",),
        out=folder / "run",
        say=said.append,
        **sets,
    )
    assert not outcome.failures, outcome.failures
    return next(artifact for artifact in outcome.artifacts if artifact.kind.precision), said


def scores_db(artifact: Artifact, run: Path) -> float:
    """The SQNR of the scores alone."""
    fresh, host = sample_set("fresh", {"x": samples(100)}, None), targets.load("host")
    models = Store(run).get("onnx"), artifact
    expected, answers = (
        next(iter(execute(m, host, fresh, Plan(), latency=False).outputs.values()))[:, 4:] for m in models
    )
    return statistics.parity("onnx", {"y": expected}, {"y": answers}).sqnr_db


@pytest.mark.parametrize("format", ["onnx", *(pytest.param(f, marks=pytest.mark.slow) for f in ("tflite", "openvino"))])
def test_scores_survive_boxes(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, said = quantized(tmp_path, format)
    assert len(artifact.fields["weights_only"]) >= 3, "OpenVINO computes the scores with the convolution"
    (line,) = [line for line in said if "after the last layers in float" in line]
    assert "times the p50 of int8 throughout" in line
    kept = scores_db(artifact, tmp_path / "run")
    assert kept > 25
    monkeypatch.setattr(method_search.output_tail, "of_model", lambda _: None)
    (tmp_path / "other").mkdir()
    joined, _ = quantized(tmp_path / "other", format)
    assert not joined.fields["weights_only"]
    before = scores_db(joined, tmp_path / "other" / "run")
    assert before <= kept if format == "openvino" else before < kept, "NNCF leaves ends like this in float itself"


@pytest.mark.parametrize("format", ["onnx", *(pytest.param(f, marks=pytest.mark.slow) for f in ("tflite", "openvino"))])
def test_a_reshape_does_not_end_the_tail(format: str, tmp_path: Path) -> None:
    artifact, _ = quantized(tmp_path, format, reshaped=True)
    (tmp_path / "other").mkdir()
    plain, _ = quantized(tmp_path / "other", format)
    kept = artifact.fields["weights_only"]
    assert len(kept) > len(plain.fields["weights_only"]) >= 3, "what passes through a Reshape is not rounded either"
    model = Store(tmp_path / "run").parent(artifact)
    assert model is not None
    described = registry.load("formats", format)
    listed = described.describe(model.path / described.file).operators
    assert not {operator.name for operator in listed if operator.type in NO_OPERATORS} & set(kept)


def test_a_tail_that_costs_time_stays_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_placement, "place", lambda search, method: TailPlacement(4, ("y",), SLOWER))
    artifact, said = quantized(tmp_path, "onnx")
    assert not artifact.fields["weights_only"]
    assert any("4 operators after the last layers stay in int8" in line and "1.20 times" in line for line in said)


@pytest.mark.parametrize(
    ("ratio", "in_float"),
    [(None, True), (SLOWER, False), (Ratio(1.2, (0.9, 1.6)), True), (Ratio(1.03, (1.01, 1.04)), True)],
)
def test_only_what_is_slower_beyond_doubt_is_given_up(ratio: Ratio | None, in_float: bool) -> None:
    assert TailPlacement(4, ("y",), ratio).in_float is in_float


@pytest.mark.parametrize(
    ("in_float", "in_int8", "needed"),
    [
        (("", 0.2), ("", 0.4), False),
        (("", 0.2), ("", 1.9), True),
        (("", 0.2), ("budget", 37.0), True),
        (("budget", 3.0), ("budget", 3.5), False),
        (("budget", 3.0), ("budget", 30.0), True),
        (("", None), ("floor", None), True),
        (("", None), ("", None), False),
    ],
)
def test_a_tail_that_costs_time_stays_in_float_where_accuracy_needs_it(
    in_float: Any, in_int8: Any, needed: bool
) -> None:
    """Each is what its check failed, and the points lost; the budget is one point."""
    made = [Kept(failed=failed, metric=Kept(drop_pp=drop)) for failed, drop in (in_float, in_int8)]
    context = Kept(check=lambda verifier, artifact, *_: artifact, gates=Kept(max_drop_pp=1.0))
    search: Any = Kept(context=context, verifier=None, reference=None)
    assert tail_placement._needed(search, *made) is needed  # type: ignore[arg-type]
    assert TailPlacement(4, ("y",), SLOWER, needed).in_float is needed


def test_a_second_search_times_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = quantized(tmp_path, "onnx")
    timed: list[Any] = []
    monkeypatch.setattr(tail_placement.attempt_times, "latencies", lambda *args: timed.append(args))
    again, said = quantized(tmp_path, "onnx")
    assert again.id == first.id and any("times the p50 of int8 throughout" in line for line in said)
    assert not timed
