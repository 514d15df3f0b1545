"""What ONNX Runtime cannot load is said plainly: the operator, or the version, without paths into its source."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.runtimes.onnxruntime import Onnxruntime


def model(path: Path, operator: str = "Relu", domain: str = "", opset: int = 20) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("input", "output")]
    node = helper.make_node(operator, ["input"], ["output"], domain=domain)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return path


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"operator": "Frobnicate", "domain": "acme"}, "acme:Frobnicate"),
        ({"opset": 99}, "Opset 99"),
    ],
)
def test_what_it_cannot_load(settings: dict[str, object], said: str, tmp_path: Path) -> None:
    path = model(tmp_path / "model.onnx", **settings)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError) as caught:
        Onnxruntime(str(path), 1, "fp32", {})
    assert said in str(caught.value)
    assert ".h:" not in str(caught.value) and str(path) not in str(caught.value)


def test_what_it_can(tmp_path: Path) -> None:
    session = Onnxruntime(str(model(tmp_path / "model.onnx")), 1, "fp32", {})
    assert [spec["shape"] for spec in session.inputs] == [[None, 4]]
