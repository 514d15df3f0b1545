"""Metrics of models without a task, from the files to the stored measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ended, run_cli

from edgekit.core.errors import InputError
from edgekit.measure.context import Outcome
from edgekit.runs.store import Store
from edgekit.workflows import bench, export, quantize, verify
from edgekit.workflows.compare.rows import collect

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402
from onnx_files import save  # noqa: E402

QUICK = {"processes": 1, "seconds": 0.02, "warmup_seconds": 0}


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Noisy images whose brightest channel tells the class, and masks that say so."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "city" / name).mkdir(parents=True)
    for index in range(32):
        mask = random.integers(0, 3, (4, 4)).repeat(8, 0).repeat(8, 1)
        image = 90 + 60 * (mask[..., None] == np.arange(3)) + random.normal(0, 40, (32, 32, 3))
        mask[0] = 255
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / f"city/images/{index}.png")
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / f"city/masks/{index}.png")
    return tmp_path / "city"


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    """The mean of each channel over 4 x 4 pixels, as scores of a quarter of the resolution."""
    weights = np.zeros((3, 3, 20, 20), np.float32)
    weights[range(3), range(3), 8:12, 8:12] = 1 / 16
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[4, 4], kernel_shape=[20, 20], pads=[8] * 4)
    ends = [("x", TensorProto.FLOAT, ["n", 3, 32, 32])], [("y", TensorProto.FLOAT, ["n", 3, 8, 8])]
    return save(tmp_path / "seg.onnx", [node], *ends, {"w": weights})


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    weights = np.random.default_rng(0).normal(size=(8, 30)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [("x", TensorProto.FLOAT, ["n", 8])], [("y", TensorProto.FLOAT, ["n", 30])]
    x = np.random.default_rng(1).normal(size=(90, 8)).astype(np.float32)
    ranks = np.argsort(-(x @ weights), axis=1)
    labels = np.where(np.arange(90) % 2, ranks[:, 0], ranks[:, 3])
    np.savez(tmp_path / "val.npz", input=x, label=labels)
    return save(tmp_path / "classes.onnx", [node], *ends, {"w": weights})


def rows(outcome: Outcome) -> dict[str, Any]:
    return {m.artifact: m.metric for m in outcome.measurements}


@pytest.mark.slow
def test_masks_from_the_files_to_the_measurements(city: Path, segmenter: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    exported = export.export(str(segmenter), to=["tflite"], val=str(city), out=run)
    assert not exported.failures
    metric = exported.findings[0].metric
    assert metric is not None and metric.name == "mIoU" and 0.7 < metric.value < 1 and metric.samples == 32
    made = quantize.quantize(str(run / "onnx"), calibration=str(city), val=str(city), max_drop_pp=5, effort="fast")
    assert not made.failures and made.findings[0].metric is not None and made.findings[0].metric.name == "mIoU"
    measured = rows(bench.bench([str(run)], data=str(city), plan=QUICK))
    assert set(measured) == {"onnx", "onnx-int8", "torch", "tflite"}
    assert measured["onnx"].value == pytest.approx(metric.value) == pytest.approx(measured["tflite"].value)
    alone = rows(bench.bench([str(run / "onnx-int8")], data=str(city), plan=QUICK))["onnx-int8"]
    assert alone.against == "onnx" and alone.drop_pp == pytest.approx(measured["onnx-int8"].drop_pp, abs=1e-4)
    (finding,) = verify.verify(str(run / "onnx-int8"), val=str(city)).findings
    assert finding.metric is not None and finding.metric.value == pytest.approx(alone.value)
    with pytest.raises(InputError, match="--metric top5 does not apply"):
        bench.bench([str(run)], data=str(city), metric="top5")


@pytest.mark.slow
def test_another_metric_is_another_measurement(classifier: Path, tmp_path: Path) -> None:
    """None is reused for the other, nor compared with it."""
    run, data = tmp_path / "run", str(tmp_path / "val.npz")
    first = bench.bench([str(classifier)], data=data, plan=QUICK, out=run)
    made = quantize.quantize(str(run / "onnx"), precision="dynamic", val=data, metric="top5")
    assert made.findings[0].metric is not None and made.findings[0].metric.name == "top5"
    second = bench.bench([str(run)], data=data, metric="top5", plan=QUICK, resume=True)
    values = rows(second)
    assert rows(first)["onnx"].value == 0.5 and (values["onnx"].value, values["onnx"].name) == (1, "top5")
    assert values["onnx-dynamic"].against == "onnx" and not second.reused
    with pytest.raises(InputError, match="in different metrics: accuracy, top5"):
        collect([str(run)])
    assert {m.artifact for _, m in collect([str(run)], metric="top5")} == {"onnx", "onnx-dynamic"}
    bench.bench([str(run / "onnx-dynamic")], data=data, metric="recall@1", plan=QUICK)
    stored = [m for m in Store(run).measurements().values() if m.metric and m.metric.name == "recall@1"]
    assert stored and stored[0].metric is not None and stored[0].metric.against is None, "its root has no such row"
    findings = [verify.verify(str(run / "onnx-dynamic"), val=data, metric=m).findings[0] for m in ("top1", "top5", "")]
    assert [f.metric and f.metric.name for f in findings] == ["accuracy", "top5", "accuracy"]


def test_a_metric_is_checked_first(tmp_path: Path) -> None:
    ended: Ended = run_cli("bench", "nothing.onnx", "--metric", "top3", cwd=tmp_path)
    assert ended.code == 2 and "top5" in ended.err
    for workflow in (bench.bench, quantize.quantize, verify.verify):
        with pytest.raises(InputError, match="there is no metric 'top3'"):
            workflow("nothing.onnx", metric="top3")  # type: ignore[operator]


def test_a_metric_needs_labels(segmenter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs labels"):
        bench.bench([str(segmenter)], metric="top1", out=tmp_path / "run")
