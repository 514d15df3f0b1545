"""What follows the last layers is found from the graph, and `inspect` says what int8 would do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import small_detector

from edgekit.workflows import export
from edgekit.workflows.inspect import model


def test_it_is_what_follows_the_last_layers(tmp_path: Path) -> None:
    report = model.inspect(str(small_detector.save(tmp_path / "d.onnx")))
    assert report["output_tail"] == {"operators": ["exp", "pixels", "scores", "join"], "joins": ["y"]}
    said = dict(model._facts(report))["in int8"]
    assert said.startswith("y would join tensors of different ranges on one scale")


def test_where_a_layer_follows_there_is_none(tmp_path: Path) -> None:
    report = model.inspect(str(small_detector.save(tmp_path / "c.onnx", layer_after=True)))
    assert report["output_tail"] is None and "in int8" not in dict(model._facts(report))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", "openvino"])
def test_other_formats_have_the_same_tail(format: str, tmp_path: Path) -> None:
    pytest.importorskip({"tflite": "litert_torch", "openvino": "openvino"}[format])
    detector = str(small_detector.save(tmp_path / "d.onnx"))
    artifact = export.export(detector, to=[format], out=tmp_path / "run").artifacts[-1]
    tail = model.inspect(str(artifact.path))["output_tail"]
    assert len(tail["joins"]) == 1 and 3 <= len(tail["operators"]) <= 6
