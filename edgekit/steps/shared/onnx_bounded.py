"""Ranges of int8 weights whose sums no x86 CPU saturates, though it has no VNNI.

Such a CPU multiplies unsigned by signed bytes and adds two neighbouring products in 16 bits (VPMADDUBSW, Intel's
Software Developer's Manual, volume 2), which clips sums beyond 32,767. With activations up to 255 two neighbouring
weights of one sign must not add up to more than 128. Halving all weights (7 bits) is one way; few neighbours are both
large, so a scale per channel that bounds the largest such sum keeps most of the eighth bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.steps.shared.onnx_weight_only import CONVOLUTIONS, PRODUCTS, channel_axis

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

#: 255 (a + b) fits 16 bits up to a + b = 128; each of the two may be rounded up by a half
LARGEST_SUM, LARGEST = 127, 127
#: what 7 bits hold
HALVED = 63


def ranges(graph: GraphProto) -> dict[str, list[dict[str, Any]]]:
    """Weight → what ONNX Runtime's quantizer takes as `TensorQuantOverrides`: one range per output channel."""
    from onnx import numpy_helper

    weights = {t.name: t for t in graph.initializer if t.data_type == 1 and len(t.dims) >= 2}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in (node for node in graph.node if node.op_type in CONVOLUTIONS + PRODUCTS and len(node.input) > 1):
        if node.input[1] in weights:
            values = numpy_helper.to_array(weights[node.input[1]])
            axis = channel_axis(node, values.ndim)
            largest = LARGEST * scales(node, values, axis)
            channels = [{"rmin": -limit, "rmax": limit} for limit in largest.astype(np.float32)]
            found[node.input[1]] = [{"axis": axis, **channels[0]}, *channels[1:]]
    return found


def scales(node: NodeProto, values: NDArray[Any], axis: int) -> NDArray[Any]:
    """The scale of each output channel."""
    rows = np.moveaxis(values, axis, 0)
    largest = np.maximum(np.abs(rows.reshape(len(rows), -1)).max(axis=1), 1e-12)
    if node.op_type == "ConvTranspose" or (node.op_type == "MatMul" and values.ndim > 2):
        return np.asarray(largest / HALVED)
    group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if node.op_type == "Conv" and values.shape[1] == 1 and group > 1:
        return np.asarray(largest / LARGEST)  # depthwise: its products are added in 32 bits
    orders = [rows.reshape(len(rows), -1)]
    if node.op_type == "Conv":
        orders.append(np.moveaxis(rows, 1, -1).reshape(len(rows), -1))
    sums = np.max([_neighbours(order) for order in orders], axis=0)
    return np.asarray(np.maximum(largest / LARGEST, sums / LARGEST_SUM))


def _neighbours(rows: NDArray[Any]) -> NDArray[Any]:
    """The largest sum of two neighbouring magnitudes of one sign in each row `[channels, values]`."""
    if rows.shape[1] < 2:
        return np.asarray(np.abs(rows).max(axis=1))
    first, second = rows[:, :-1], rows[:, 1:]
    same = np.sign(first) * np.sign(second) >= 0
    return np.asarray(np.where(same, np.abs(first) + np.abs(second), 0).max(axis=1))
