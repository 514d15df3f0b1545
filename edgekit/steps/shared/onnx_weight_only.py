"""What ONNX has no integer kernel for is stored smaller, and computed with in float32.

A Cast, and a Mul by a scale, make floats of it, which ONNX Runtime computes once, when it loads the model. A
DequantizeLinear it computes in each run: a GRU took 1.4 times as long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgekit.steps.shared.fp16_constants import is_table, misfit
from edgekit.steps.shared.onnx_rules import Rule, apply, drop_unread

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

RECURRENT = ("GRU", "RNN", "LSTM")
#: convolutions and products: what their weights are stored by
CONVOLUTIONS, PRODUCTS = ("Conv", "ConvTranspose"), ("Gemm", "MatMul")
#: smaller weights stay float: two more operators take as many bytes
SMALL = 1024
#: below it float16 has fewer than its eleven bits
LEAST_HALF = 2.0**-14


def store(model: ModelProto, kept: Collection[str] = (), chosen: Collection[str] = ()) -> int:
    """Store weights of recurrent operators as int8, their biases and positional embeddings as float16.

    The operators `kept`, by name, are left alone. Of `chosen` convolutions and products the weights are stored as int8,
    too. Returns how many operators have int8 weights.
    """
    constants = _Constants(model.graph)
    rules = [rule(constants, kept) for rule in (RecurrentWeights, RecurrentBiases, PositionalEmbeddings)]
    decisions = apply([*rules, ChannelWeights(constants, chosen)], model.graph)
    drop_unread(model.graph, constants.stored)
    # an operator may lack a name; its outputs identify it
    int8 = (RecurrentWeights.__name__, ChannelWeights.__name__)
    weights = (d for d in decisions if d.rule in int8 and not d.refused)
    return len({tuple(decision.node.output) for decision in weights})


def described(stored: int) -> str:
    """The end of a scheme."""
    return f", weights of {stored} operator{'s' * (stored > 1)} stored only" if stored else ""


class _Constants:
    """The float32 constants of a graph, and operators before all others that compute those `stored` smaller."""

    def __init__(self, graph: GraphProto) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.floats = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == 1}
        self.stored: set[str] = set()
        self._operators = 0

    def store(self, name: str, values: np.ndarray, scale: np.ndarray | None = None) -> None:
        """The constant `name` as `values`, times a `scale`; what reads it is to read `name`_float."""
        from onnx import helper

        if name in self.stored:
            return
        self.stored.add(name)
        stored = self._add(f"{name}_stored", values, f"{name}_float" if scale is None else f"{name}_stored_float")
        if scale is not None:
            factor = self._add(f"{name}_scale", scale, f"{name}_scale_float")
            self._first(helper.make_node("Mul", [stored, factor], [f"{name}_float"]))

    def _add(self, name: str, values: np.ndarray, as_float: str) -> str:
        """A constant; returns the name of its float32 values."""
        from onnx import TensorProto, helper, numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(values, name))
        if values.dtype == np.float32:
            return name
        self._first(helper.make_node("Cast", [name], [as_float], to=TensorProto.FLOAT))
        return as_float

    def _first(self, node: NodeProto) -> None:
        self.graph.node.insert(self._operators, node)
        self._operators += 1


class _Stored(Rule):
    """A float32 constant that an operator of ONNX's own domain reads, stored smaller."""

    def __init__(self, constants: _Constants, kept: Collection[str]) -> None:
        super().__init__(constants.graph)
        self.constants, self.kept = constants, kept

    def candidates(self, node: NodeProto) -> Iterator[tuple[int, np.ndarray]]:
        """The operator's inputs that are float32 constants."""
        if node.domain in ("", "ai.onnx"):
            for index, name in enumerate(node.input):
                if name in self.constants.floats:
                    yield index, self.constants.floats[name]

    def check(self, node: NodeProto, index: int) -> str:
        return "the operator is kept in float" if node.name in self.kept else ""

    def rewrite(self, node: NodeProto, index: int) -> None:
        name = node.input[index]
        self.constants.store(name, *self.parts(self.constants.floats[name]))
        node.input[index] = f"{name}_float"

    def parts(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """The stored values, and their scale, if any."""
        raise NotImplementedError


class RecurrentWeights(_Stored):
    """Weights as int8, one scale per row: (directions, gates · H, I) and (directions, gates · H, H)."""

    def matches(self, node: NodeProto) -> Iterator[int]:
        if node.op_type in RECURRENT:
            yield from (i for i, values in self.candidates(node) if i in (1, 2) and values.ndim == 3)

    def parts(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """Integers of the tensor's shape (D, rows, columns), scales (D, rows, 1): float16 if that has all its bits."""
        largest = np.abs(values).max(axis=2, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        if scale.min() >= LEAST_HALF and scale.max() <= np.finfo(np.float16).max:
            scale = scale.astype(np.float16)
        return np.clip(np.rint(values / scale.astype(np.float32)), -127, 127).astype(np.int8), scale


class ChannelWeights(_Stored):
    """Weights of the `chosen` convolutions and products as int8, one scale per output channel."""

    def __init__(self, constants: _Constants, chosen: Collection[str]) -> None:
        super().__init__(constants, ())
        self.chosen = frozenset(chosen)

    def matches(self, node: NodeProto) -> Iterator[int]:
        if node.name in self.chosen and node.op_type in CONVOLUTIONS + PRODUCTS:
            yield from (
                i for i, values in self.candidates(node) if i == 1 and values.ndim >= 2 and values.size >= SMALL
            )

    def rewrite(self, node: NodeProto, index: int) -> None:
        name = node.input[index]
        values = self.constants.floats[name]
        axis = channel_axis(node, values.ndim)
        largest = np.abs(values).max(axis=tuple(a for a in range(values.ndim) if a != axis), keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        self.constants.store(name, np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale)
        node.input[index] = f"{name}_float"


def channel_axis(node: NodeProto, rank: int) -> int:
    """The axis of a weight's output channels: (O, I / groups, …), (I, O / groups, …), and (O, I) or (…, I, O)."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, rank - 1)


class _Halved(_Stored):
    """Stored as float16, where that holds the values."""

    def check(self, node: NodeProto, index: int) -> str:
        return super().check(node, index) or misfit(self.constants.floats[node.input[index]])

    def parts(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        return (values.astype(np.float16),)


class RecurrentBiases(_Halved):
    """Biases of recurrent operators, (directions, 2 · gates · H), as float16."""

    def matches(self, node: NodeProto) -> Iterator[int]:
        if node.op_type in RECURRENT:
            yield from (index for index, _ in self.candidates(node) if index == 3)


class PositionalEmbeddings(_Halved):
    """Tables that are added, as a transformer's positional embeddings are, as float16."""

    def matches(self, node: NodeProto) -> Iterator[int]:
        if node.op_type == "Add":
            yield from (index for index, values in self.candidates(node) if is_table(values))
