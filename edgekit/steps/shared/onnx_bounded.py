"""Bounded weights (see `compression/bounded_weights.py`) in an ONNX model that is still float."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compression.bounded_weights import LARGEST, bound
from edgekit.steps.shared.onnx_weight_only import CONVOLUTIONS, PRODUCTS, channel_axis

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def bound_weights(graph: GraphProto, excluded: Collection[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Round the weights of its convolutions and products, without the `excluded` operators', to bounded codes.

    Returns weight → what ONNX Runtime's quantizer takes as `TensorQuantOverrides`: one range per output channel.
    """
    from onnx import numpy_helper

    weights = {t.name: t for t in graph.initializer if t.data_type == 1 and len(t.dims) >= 2}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in (node for node in graph.node if node.op_type in CONVOLUTIONS + PRODUCTS and len(node.input) > 1):
        if node.input[1] not in weights or node.name in excluded:
            continue
        tensor = weights[node.input[1]]
        values = numpy_helper.to_array(tensor)
        if _is_depthwise(node, values.shape):
            continue
        axis = channel_axis(node, values.ndim)
        inputs = _inputs_axis(node.op_type, axis, values.ndim)
        rows = np.moveaxis(values, (axis, inputs), (0, 1))
        rounded, scales = bound(rows)
        tensor.CopyFrom(numpy_helper.from_array(np.moveaxis(rounded, (0, 1), (axis, inputs)), tensor.name))
        channels = [{"rmin": -limit, "rmax": limit} for limit in LARGEST * scales]
        found[tensor.name] = [{"axis": axis, **channels[0]}, *channels[1:]]
    return found


def _is_depthwise(node: NodeProto, shape: tuple[int, ...]) -> bool:
    """Is it a convolution with a single input and output per group? Its products are added in 32 bits."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return node.op_type == "Conv" and groups > 1 and shape[:2] == (groups, 1)


def _inputs_axis(kind: str, channels: int, rank: int) -> int:
    """The axis that the operator sums over."""
    if kind == "ConvTranspose":
        return 0
    return 1 if kind == "Conv" else rank - 2 if channels == rank - 1 else rank - 1
