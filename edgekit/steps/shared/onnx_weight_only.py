"""What ONNX has no integer kernel for is stored smaller, and computed with in float32.

A Cast, and a Mul by a scale, make floats of it, which ONNX Runtime computes once, when it loads the model. A
DequantizeLinear it computes in each run: a GRU took 1.4 times as long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.steps.shared.float16_tables import half, is_table

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

RECURRENT = ("GRU", "RNN", "LSTM")
#: below it float16 has fewer than its eleven bits
LEAST_HALF = 2.0**-14


def store(model: ModelProto, kept: Collection[str] = ()) -> int:
    """Store the weights of recurrent operators as int8, one scale per row, their biases and added tables as float16.

    Such a table is what a transformer adds to know places. The operators `kept`, by name, are left alone. Returns how
    many recurrent ones there were. Weights: (directions, gates · H, I) and (directions, gates · H, H).
    """
    from onnx import numpy_helper

    floats = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == 1}
    parts: dict[str, tuple[np.ndarray, ...]] = {}
    recurrent = 0
    for node in (node for node in model.graph.node if node.name not in kept and node.domain in ("", "ai.onnx")):
        smaller = dict(_smaller(node, floats))
        parts |= {node.input[index]: found for index, found in smaller.items()}
        recurrent += node.op_type in RECURRENT and any(len(found) == 2 for found in smaller.values())
        for index in smaller:
            node.input[index] += "_float"
    _write(model, parts)
    return recurrent


def described(stored: int) -> str:
    """The end of a scheme."""
    return f", weights of {stored} recurrent operators stored only" if stored else ""


def _smaller(node: NodeProto, floats: Mapping[str, np.ndarray]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Which inputs of an operator can be stored smaller, and what makes each up: halves, or integers and scales."""
    for index, name in enumerate(node.input):
        values = floats.get(name)
        if values is None:
            continue
        if node.op_type in RECURRENT and index in (1, 2) and values.ndim == 3:
            yield index, _int8(values)
            continue
        halved = (node.op_type in RECURRENT and index == 3) or (node.op_type == "Add" and is_table(values))
        if halved and (found := half(values)) is not None:
            yield index, (found,)


def _int8(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers of the tensor's shape (D, rows, columns), scales (D, rows, 1): float16 where that has all its bits."""
    largest = np.abs(values).max(axis=2, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    if scale.min() >= LEAST_HALF and scale.max() <= np.finfo(np.float16).max:
        scale = scale.astype(np.float16)
    return np.clip(np.rint(values / scale.astype(np.float32)), -127, 127).astype(np.int8), scale


def _write(model: ModelProto, parts: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Each constant `name` as its parts, and operators before all others that make `name`_float of them."""
    from onnx import TensorProto, helper, numpy_helper

    graph, first = model.graph, []
    for name, arrays in parts.items():
        factors = []
        for array, part in zip(arrays, ("stored", "scale"), strict=False):
            stored = f"{name}_{part}"
            graph.initializer.append(numpy_helper.from_array(array, stored))
            factors.append(stored)
            if array.dtype != np.float32:
                factors[-1] = f"{name}_float" if len(arrays) == 1 else f"{stored}_float"
                first.append(helper.make_node("Cast", [stored], factors[-1:], to=TensorProto.FLOAT))
        if len(arrays) == 2:
            first.append(helper.make_node("Mul", factors, [f"{name}_float"]))
    for place, node in enumerate(first):
        graph.node.insert(place, node)
    read = {value.name for value in graph.output} | set(_read(graph))
    for tensor in [tensor for tensor in graph.initializer if tensor.name in parts and tensor.name not in read]:
        graph.initializer.remove(tensor)


def _read(graph: GraphProto) -> Iterator[str]:
    """Names of what its operators read, those inside branches and loops included."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner)
                yield from (value.name for value in inner.output)
