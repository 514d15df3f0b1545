"""What follows the last layers is found from the graph, and `inspect` says what int8 would do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnx
import small_detector

from edgekit.core.artifact import Operator
from edgekit.workflows import export
from edgekit.workflows.inspect import model
from edgekit.workflows.inspect.output_tail import output_tail


def test_it_is_what_follows_the_last_layers(tmp_path: Path) -> None:
    report = model.inspect(str(small_detector.save(tmp_path / "d.onnx")))
    assert report["output_tail"] == {"operators": ["exp", "pixels", "scores", "join"], "joins": ["y"]}
    said = dict(model._facts(report))["in int8"]
    assert said.startswith("y would join several tensors on one scale")


def test_where_a_layer_follows_there_is_none(tmp_path: Path) -> None:
    report = model.inspect(str(small_detector.save(tmp_path / "c.onnx", layer_after=True)))
    assert report["output_tail"] is None and "in int8" not in dict(model._facts(report))


def test_a_reshape_belongs_to_it_and_an_operator_without_a_name_ends_it(tmp_path: Path) -> None:
    path = small_detector.save(tmp_path / "r.onnx", reshaped=True)
    report = model.inspect(str(path))
    assert report["output_tail"]["operators"] == ["exp", "pixels", "scores", "join", "list"]
    unnamed = onnx.load(path)
    unnamed.graph.node[-2].name = ""
    onnx.save(unnamed, path)
    operators = (Operator("Conv", "stem", macs=10**6), Operator("Concat", ""), Operator("Reshape", "list"))
    assert output_tail("onnx", path, operators) is None


def test_a_graph_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    convolution = (Operator("Conv", "c", macs=5),)
    assert output_tail("onnx", tmp_path / "none.onnx", convolution) is None
    (tmp_path / "m.xml").write_text("<net/>")
    assert output_tail("openvino", tmp_path / "m.xml", convolution) is None
    assert output_tail("torch", tmp_path, convolution) is None


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", "openvino"])
def test_other_formats_have_the_same_tail(format: str, tmp_path: Path) -> None:
    pytest.importorskip({"tflite": "litert_torch", "openvino": "openvino"}[format])
    detector = str(small_detector.save(tmp_path / "d.onnx"))
    artifact = export.export(detector, to=[format], out=tmp_path / "run").artifacts[-1]
    tail = model.inspect(str(artifact.path))["output_tail"]
    assert len(tail["joins"]) == 1 and 3 <= len(tail["operators"]) <= 6
