"""An ONNX file without what no runtime reads or what it can work out: long names, zeros, scales of biases, shapes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
#: values in a scale that take no more room than an operator
SHORT = 8


def lean(model: ModelProto) -> None:
    """Make the file smaller in place; what it computes, its inputs, outputs and activations' names stay.

    A DequantizeLinear without a zero point has one of 0 (ONNX operator specification), as signed weights and biases
    have; ONNX Runtime fuses convolutions without it, and matrix products only with it. The scale of a bias is the
    input's times the weights': a product of constants, which ONNX Runtime works out when it loads the model. Constants
    and what a conversion writes get names of a letter or two. A model with branches or functions keeps its constants
    and their names, since they may be read from within.
    """
    graph = model.graph
    nested = model.functions or any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:]
    graph.doc_string = ""
    if not nested:
        _drop_zero_points(graph)
        _shorten(graph, _drop_bias_scales(graph))


def _drop_zero_points(graph: GraphProto) -> None:
    """Those of constants, where they are all 0, and their reader is one that ONNX Runtime fuses without them."""
    constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) != 3 or node.input[0] not in constants:
            continue
        zero = constants.get(node.input[2])
        if zero is not None and readers.get(node.output[0]) == "Conv" and not _array(zero).any():
            del node.input[2]
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _drop_bias_scales(graph: GraphProto) -> list[str]:
    """Those of convolutions and linear layers that are that product to the bit; returns their names.

    A short one takes less room than the operator.
    """
    from onnx import helper

    constants = {tensor.name: _array(tensor) for tensor in graph.initializer if tensor.data_type == 1}
    scales = {
        n.output[0]: n.input[1] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[1] in constants
    }
    made: dict[str, NodeProto] = {}
    for node in (node for node in graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) == 3):
        names = [scales.get(name, "") for name in node.input]
        if not all(names):
            continue
        data, weights, bias = (constants[name] for name in names)
        if bias.size > SHORT and data.size == 1 and bias.shape == weights.shape and (data * weights == bias).all():
            made[names[2]] = helper.make_node("Mul", names[:2], names[2:])
    # a scale that another product reads stays as it is: operators come in the order of computation
    made = {name: node for name, node in made.items() if not made.keys() & set(node.input)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in made]:
        graph.initializer.remove(tensor)
    for place, product in enumerate(made.values()):
        graph.node.insert(place, product)
    return list(made)


def _shorten(graph: GraphProto, made: Collection[str]) -> None:
    """Of constants, of what conversions write, and of the constants `made` by operators."""
    edges = {value.name for value in (*graph.input, *graph.output)}
    taken = edges | {name for node in graph.node for name in (*node.input, *node.output)}
    short = (name for name in _names() if name not in taken)
    inside = [*(tensor.name for tensor in graph.initializer), *made]
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
