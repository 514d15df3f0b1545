"""No sum of two neighbouring products leaves 16 bits, and most of the eighth bit is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

onnx = pytest.importorskip("onnx")
from edgekit.steps.shared.onnx_bounded import LARGEST, ranges, scales  # noqa: E402

helper = onnx.helper
WEIGHTS = arrays(np.float32, (6, 4, 3, 3), elements=st.floats(-3, 3, width=32))


def rounded(values: Any, scale: Any) -> Any:
    return np.clip(np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))), -LARGEST, LARGEST)


@given(WEIGHTS, st.integers(0, 1))
@settings(deadline=None, max_examples=60)
def test_neighbours_fit_16_bits(values: Any, order: int) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    codes = rounded(values, scales(node, values, 0))
    rows = (np.moveaxis(codes, 1, -1) if order else codes).reshape(len(codes), -1)
    for activations in (np.full(rows.shape[1], 255.0), 255.0 * (rows > 0), 255.0 * (rows < 0)):
        sums = (rows * activations)[:, :-1] + (rows * activations)[:, 1:]
        assert np.abs(sums).max() <= 2**15


def test_it_is_finer_than_seven_bits() -> None:
    values = np.random.default_rng(0).normal(size=(64, 96, 1, 1)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    seven = np.abs(values.reshape(64, -1)).max(axis=1) / 63
    assert np.mean(scales(node, values, 0) / seven) < 0.8


@pytest.mark.parametrize(
    ("kind", "shape", "axis"), [("MatMul", (9, 5), 1), ("Gemm", (9, 5), 1), ("Conv", (5, 9, 1, 1), 0)]
)
def test_each_channel_has_a_range(kind: str, shape: tuple[int, ...], axis: int) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    node = helper.make_node(kind, ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(name, 1, None) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [onnx.numpy_helper.from_array(values, "w")])
    (found,) = ranges(graph).values()
    assert len(found) == 5 and found[0]["axis"] == axis
    assert all(entry["rmax"] == -entry["rmin"] > 0 for entry in found)


def test_depthwise_keeps_eight_bits() -> None:
    values = np.random.default_rng(0).normal(size=(8, 1, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=8)
    np.testing.assert_allclose(scales(node, values, 0), np.abs(values).max(axis=(1, 2, 3)) / 127, rtol=1e-6)
