"""Recurrent operators in ONNX have no integer kernel: their weights are stored as int8, and computed with in float.

A Cast and a Mul make floats of them, which ONNX Runtime computes once, when it loads the model. A DequantizeLinear it
computes in each run: a GRU took 1.4 times as long.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

OPERATORS = ("GRU", "RNN", "LSTM")


def store(model: ModelProto, kept: Collection[str] = ()) -> int:
    """Store the weights of recurrent operators as int8, one scale per row.

    The operators `kept`, by name, are left alone. Returns how many there were. Weights: (directions, gates · H, I) and
    (directions, gates · H, H).
    """
    from onnx import TensorProto, helper, numpy_helper

    floats = {t.name: t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) == 3}
    recurrent = [node for node in model.graph.node if node.op_type in OPERATORS and node.domain in ("", "ai.onnx")]
    readers = [node for node in recurrent if node.name not in kept]
    made: dict[str, str] = {}
    for node in readers:
        for index in (1, 2):
            name = node.input[index]
            if name in floats and name not in made:
                values, scale = _int8(floats[name])
                tensors = {f"{name}_int8": values, f"{name}_scale": scale}
                model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in tensors.items())
                made[name], whole = f"{name}_float", f"{name}_whole"
                cast = helper.make_node("Cast", [f"{name}_int8"], [whole], to=TensorProto.FLOAT)
                scaled = helper.make_node("Mul", [whole, f"{name}_scale"], [made[name]])
                for place, new in enumerate((cast, scaled)):
                    model.graph.node.insert(place, new)
            node.input[index] = made.get(name, name)
    read = {name for node in model.graph.node for name in node.input}
    for name in made:
        if name not in read:
            model.graph.initializer.remove(floats[name])
    return sum(any(name in made.values() for name in node.input) for node in readers)


def described(stored: int) -> str:
    """The end of a scheme."""
    return f", weights of {stored} recurrent operators stored only" if stored else ""


def _int8(tensor: TensorProto) -> tuple[np.ndarray, np.ndarray]:
    """Integers of the tensor's shape (D, rows, columns), and float32 scales (D, rows, 1)."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    largest = np.abs(values).max(axis=2, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale
