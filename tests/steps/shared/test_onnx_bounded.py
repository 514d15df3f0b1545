"""The weights of each operator are bounded along its inputs, and the quantizer's ranges reproduce them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from edgekit.steps.shared.onnx_bounded import bound_weights  # noqa: E402

helper = onnx.helper


def bounded(kind: str, values: Any, excluded: tuple[str, ...] = (), **attributes: Any) -> tuple[Any, Any]:
    """The weights after, and the ranges, of a graph of one operator."""
    node = helper.make_node(kind, ["x", "w"], ["y"], name="one", **attributes)
    ends = [helper.make_tensor_value_info(name, 1, None) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [onnx.numpy_helper.from_array(values, "w")])
    found = bound_weights(graph, excluded)
    return onnx.numpy_helper.to_array(graph.initializer[0]), found.get("w")


@pytest.mark.parametrize(
    ("kind", "shape", "channels", "inputs", "attributes"),
    [
        ("MatMul", (8, 5), 1, 0, {}),
        ("MatMul", (3, 8, 5), 2, 1, {}),
        ("Gemm", (8, 5), 1, 0, {}),
        ("Gemm", (5, 8), 0, 1, {"transB": 1}),
        ("Conv", (5, 8, 3, 3), 0, 1, {}),
        ("Conv", (4, 1, 2, 2), 0, 3, {"group": 2}),
        ("ConvTranspose", (8, 5, 2, 2), 1, 0, {}),
    ],
)
def test_the_ranges_are_those_of_bounded_codes(
    kind: str, shape: tuple[int, ...], channels: int, inputs: int, attributes: dict[str, Any]
) -> None:
    values = np.random.default_rng(0).uniform(0.5, 1, size=shape).astype(np.float32)
    after, ranges = bounded(kind, values, **attributes)
    assert len(ranges) == shape[channels] and ranges[0]["axis"] == channels
    scales = np.array([entry["rmax"] / 127 for entry in ranges])
    assert all(entry["rmin"] == -entry["rmax"] for entry in ranges)
    codes = np.moveaxis(after, channels, -1) / scales
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)
    rows = np.moveaxis(np.moveaxis(np.rint(codes), -1, channels), inputs, -1)
    assert (rows[..., ::2] + rows[..., 1::2]).max() <= 128


def test_depthwise_keeps_eight_bits() -> None:
    values = np.random.default_rng(0).normal(size=(8, 1, 3, 3)).astype(np.float32)
    after, ranges = bounded("Conv", values, group=8)
    assert ranges is None
    np.testing.assert_array_equal(after, values)


def test_an_operator_in_float_keeps_its_weights() -> None:
    values = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
    after, ranges = bounded("Conv", values, excluded=("one",))
    assert ranges is None
    np.testing.assert_array_equal(after, values)
