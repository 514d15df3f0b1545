"""What stands for infinity is left out; NaN is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.compression.calibration.infinities import LARGE, finite, has_infinities, has_large
from edgekit.compression.calibration.onnx import masked_tensors

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def test_masks_are_left_out_and_nan_is_not() -> None:
    values = np.array([1, -np.inf, np.finfo("f4").min, np.nan, 2], "f4")
    assert has_infinities(values) and not has_infinities(np.array([1, 2]))
    np.testing.assert_array_equal(finite(values), [1, np.nan, 2])


def test_large_constants() -> None:
    values = np.array([1, -1e4, -9990, np.nan, 2], "f4")
    assert has_large(values) and not has_large(np.array([-9999, 1e4], "f4")) and not has_large(np.array([-20000]))
    np.testing.assert_array_equal(finite(values, LARGE / 2), [1, np.nan, 2])


def graph(read_by: str, output: bool = False) -> Any:
    """Scores with -10,000 added, that a softmax or another operator reads."""
    nodes = [
        helper.make_node("Mul", ["x", "minus"], ["mask"]),
        helper.make_node("Add", ["scores", "mask"], ["sum"]),
        helper.make_node(read_by, ["sum"], ["y"]),
    ]
    names, kind = ("x", "scores", "sum", "y"), onnx.TensorProto.FLOAT
    values = {name: helper.make_tensor_value_info(name, kind, [4]) for name in names}
    constants = [onnx.numpy_helper.from_array(np.array(-1e4, "f4"), "minus")]
    outputs = [values["y"], *([values["sum"]] if output else [])]
    return helper.make_graph(nodes, "g", [values["x"], values["scores"]], outputs, constants)


def test_large_constants_are_a_mask_where_only_a_softmax_reads_them() -> None:
    assert masked_tensors(graph("Softmax")) == {"minus", "mask", "sum"}
    assert masked_tensors(graph("Relu")) == set()
    assert masked_tensors(graph("Softmax", output=True)) == set()
