"""float16 ONNX files: quantized from float32, with inputs of either type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import but_larger

from edgekit import sets
from edgekit.runs import named_sets
from edgekit.workflows.quantize import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from edgekit.steps.onnx_fp32 import widen  # noqa: E402

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def half(source: Path, path: Path, keep_io_types: bool) -> Path:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = convert_float_to_float16(onnx.load(str(source)), keep_io_types=keep_io_types)
    OnnxModel(model).topological_sort()
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("keep_io_types", [True, False])
@pytest.mark.usefixtures("brief_search", "members")
def test_a_float16_file_is_quantized(keep_io_types: bool, bars_made: Path, tmp_path: Path) -> None:
    model = half(bars_made / "onnx" / "model.onnx", tmp_path / "m.onnx", keep_io_types)
    for split, source in (("calibration", "train"), ("val", "val")):
        data = sets.take(named_sets.load(f"bars:{source}"), 100)
        np.savez(tmp_path / f"{split}.npz", input=data.inputs["input"].astype(np.float32))
    outcome = quantize(
        str(model),
        to=["onnx", "openvino"],
        methods=("min-max",),
        calibration=str(tmp_path / "calibration.npz"),
        val=str(tmp_path / "val.npz"),
        out=tmp_path / "run",
    )
    assert not but_larger(outcome.failures), outcome.failures
    assert {str(artifact.kind) for artifact in outcome.artifacts} >= {"onnx", "onnx[int8]", "openvino[int8]"}
    parities = [finding.parity for finding in outcome.findings if finding.parity and finding.artifact.endswith("int8")]
    assert len(parities) == 2 and min(parity.sqnr_db for parity in parities) > 20


def test_what_is_within_is_widened_too() -> None:
    """Branches, constants, and operators that name a type."""
    values = onnx.numpy_helper.from_array(np.array([1.5], np.float16), "value")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=values)],
        "then",
        [],
        [onnx.helper.make_tensor_value_info("c", HALF, [1])],
    )
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["h"], to=HALF),
        onnx.helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner),
    ]
    ends = [onnx.helper.make_tensor_value_info(n, HALF, [1]) for n in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [values])
    widen(graph)
    text = str(graph)
    assert f"elem_type: {HALF}" not in text and f"data_type: {HALF}" not in text
    assert graph.node[0].attribute[0].i == FLOAT
    assert onnx.numpy_helper.to_array(graph.initializer[0]).tolist() == [1.5]
