"""An ONNX file without what no runtime reads, or can compute: long names, zeros, scales of biases, shapes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgekit.steps.shared.onnx_rules import Rule, apply, drop, drop_unread

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

LOG = logging.getLogger(__name__)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
#: values in a scale that take no more room than an operator
SHORT = 8


def slim(model: ModelProto) -> None:
    """Make the file smaller in place; what it computes, its inputs, outputs and activations' names stay.

    A model with branches or functions keeps its constants and their names, since they may be read from within.
    """
    graph = model.graph
    strip(graph)
    if model.functions or any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        LOG.debug("constants and their names stay: the model's branches or functions may read them")
        return
    products = BiasScales(graph)
    apply((ZeroPoints(graph), products), graph)
    drop_unread(graph)
    shorten(graph, products.written)


def strip(graph: GraphProto) -> None:
    """Remove comments, metadata and the shapes of activations."""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:]
    graph.doc_string = ""


class ZeroPoints(Rule):
    """Remove the zero points of constants where they are 0, as those of signed weights and biases are.

    A DequantizeLinear without a zero point has one of 0 (ONNX operator specification). ONNX Runtime fuses convolutions
    without it, and matrix products only with it.
    """

    def __init__(self, graph: GraphProto) -> None:
        super().__init__(graph)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._readers = {name: node.op_type for node in graph.node for name in node.input}

    def matches(self, node: NodeProto) -> Iterator[int]:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[0] in self._constants:
            yield 2

    def check(self, node: NodeProto, index: int) -> str:
        zero, reader = self._constants.get(node.input[index]), self._readers.get(node.output[0])
        if zero is None:
            return "it is not a constant"
        if reader != "Conv":
            return f"ONNX Runtime does not fuse {reader or 'an output'} without it"
        return "it is not 0" if _array(zero).any() else ""

    def rewrite(self, node: NodeProto, index: int) -> None:
        del node.input[index]


class BiasScales(Rule):
    """Compute the scales of biases of convolutions and linear layers: the input's scale times the weights'.

    ONNX Runtime computes this product of constants when it loads the model. `written`: the scales that are computed.
    """

    def __init__(self, graph: GraphProto) -> None:
        super().__init__(graph)
        self._constants = {tensor.name: _array(tensor) for tensor in graph.initializer if tensor.data_type == 1}
        self._scales = {
            node.output[0]: node.input[1]
            for node in graph.node
            if node.op_type == "DequantizeLinear" and node.input[1] in self._constants
        }
        self._of_biases = {self._scales[node.input[i]] for node in graph.node for i in self.matches(node)}
        self.written: list[str] = []

    def matches(self, node: NodeProto) -> Iterator[int]:
        dequantized = len(node.input) == 3 and all(name in self._scales for name in node.input)
        if node.op_type in ("Conv", "Gemm") and dequantized:
            yield 2

    def check(self, node: NodeProto, index: int) -> str:
        names = [self._scales[name] for name in node.input]
        data, weights, bias = (self._constants[name] for name in names)
        if bias.size <= SHORT:
            return f"a scale of {bias.size} values takes less room than an operator"
        if data.size != 1 or bias.shape != weights.shape or not (data * weights == bias).all():
            return "its scale is not the product of the others to the bit"
        if self._of_biases & set(names[:2]):  # operators come in the order of computation
            return "a factor is the scale of another bias, which may be computed too"
        return ""

    def rewrite(self, node: NodeProto, index: int) -> None:
        from onnx import helper

        data, weights, bias = (self._scales[name] for name in node.input)
        product = helper.make_node("Mul", [data, weights], [bias])
        if bias in self.written:  # of two layers that share a bias, the last
            self.graph.node[self.written.index(bias)].CopyFrom(product)
            return
        self.graph.node.insert(len(self.written), product)
        self.written.append(bias)
        drop(self.graph, (bias,))


def shorten(graph: GraphProto, computed: Collection[str] = ()) -> None:
    """Give names of a letter or two to constants, to what conversions write, and to the constants `computed`."""
    edges = {value.name for value in (*graph.input, *graph.output)}
    taken = edges | {name for node in graph.node for name in (*node.input, *node.output)}
    short = (name for name in _names() if name not in taken)
    inside = [*(tensor.name for tensor in graph.initializer), *computed]
    inside += [name for node in graph.node if node.op_type in _CONVERSIONS for name in node.output]
    renamed = {name: next(short) for name in inside if name not in edges}
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        if node.op_type in _CONVERSIONS:
            node.name = ""
        for side in (node.input, node.output):
            for index, name in enumerate(side):
                if name in renamed:
                    side[index] = renamed[name]


def _names() -> Iterator[str]:
    """a, b, …, z, a0, a1, …: letters first, so that none looks like a number."""
    letters, tails = _DIGITS[10:], [""]
    while True:
        yield from (letter + tail for tail in tails for letter in letters)
        tails = [tail + digit for tail in tails for digit in _DIGITS]


def _array(tensor: TensorProto) -> NDArray[Any]:
    from onnx import numpy_helper

    array: NDArray[Any] = numpy_helper.to_array(tensor)
    return array
