"""Rules about operators that only move values: TRANSPOSE and RESHAPE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.steps.shared.tflite_rules import Graph, Rule, Shape

_REDUCTIONS = frozenset("MEAN SUM REDUCE_MAX REDUCE_MIN".split())
#: of each element by itself; a second input is a constant or has the same layout
_UNARY = frozenset(
    "ABS CAST DEQUANTIZE ELU EXP GELU HARD_SWISH LOGISTIC NEG QUANTIZE RELU RELU6 RELU_N1_TO_1 RSQRT SQRT SQUARE "
    "TANH".split()
)
_BINARY = frozenset("ADD DIV MAXIMUM MINIMUM MUL SUB".split())


class MergeTransposes(Rule):
    """Two TRANSPOSEs, as one or none."""

    def matches(self, operator: Any) -> bool:
        if self.graph.type(operator) != "TRANSPOSE":
            return False
        order, before = _order(self.graph, operator), self.graph.writer(operator.inputs[0])
        identity = order is not None and order == tuple(range(len(order)))
        return identity or (before is not None and self.graph.type(before) == "TRANSPOSE")

    def check(self, operator: Any) -> str:
        graph, order = self.graph, _order(self.graph, operator)
        if order is None:
            return "its order is no constant"
        if order == tuple(range(len(order))):
            return _kept(graph, operator)
        before = graph.writer(operator.inputs[0])
        earlier = _order(graph, before) if before is not None else None
        if earlier is None:
            return "the order before is no constant"
        joined = [earlier[axis] for axis in order]
        if joined == sorted(joined):
            return _kept(graph, operator)
        return "" if graph.only_reader(operator.inputs[0]) else "something else reads the tensor between"

    def rewrite(self, operator: Any) -> None:
        graph, order, before = self.graph, _order(self.graph, operator), self.graph.writer(operator.inputs[0])
        assert order is not None
        if order == tuple(range(len(order))):
            graph.bypass(operator)
            return
        earlier = _order(graph, before)
        assert earlier is not None and before is not None
        joined = np.array([earlier[axis] for axis in order], np.int32)
        graph.read(operator, 0, int(before.inputs[0]))
        graph.changed()
        if (joined == np.arange(len(joined))).all():
            graph.bypass(operator)
        else:
            graph.read(operator, 1, graph.copy(int(operator.inputs[1]), joined, "joined"))
        _remove_unread(graph, before)


class SinkLayout(Rule):
    """A TRANSPOSE or RESHAPE, then operators on each element by itself, then another of that kind: the first moves down
    to the second, with which it merges."""

    def matches(self, operator: Any) -> bool:
        return self.graph.type(operator) in ("TRANSPOSE", "RESHAPE") and bool(
            elementwise_chain(self.graph, operator)[0]
        )

    def check(self, operator: Any) -> str:
        graph, (chain, end) = self.graph, elementwise_chain(self.graph, operator)
        if end is None or graph.type(end) != graph.type(operator):
            return "no operator of its kind follows"
        source = int(operator.inputs[0])
        if not graph.fixed(source, *(int(each.outputs[0]) for each in chain)):
            return "sizes are open"
        order = _order(graph, operator)
        if graph.type(operator) == "TRANSPOSE" and order is None:
            return "its order is no constant"
        for each in chain:
            for index in self._constants(each):
                constant = graph.constant(index)
                assert constant is not None
                if constant.size > 1 and (order is None or constant.ndim != len(order)):
                    return f"a constant of {graph.name(int(each.outputs[0]))} cannot be moved with it"
        return ""

    def rewrite(self, operator: Any) -> None:
        graph, (chain, end) = self.graph, elementwise_chain(self.graph, operator)
        assert end is not None
        source, output, order = int(operator.inputs[0]), int(operator.outputs[0]), _order(graph, operator)
        shape = graph.shape(source)
        for each in chain:
            for position, index in enumerate(map(int, each.inputs)):
                constant = graph.constant(index)
                if constant is not None and constant.size > 1 and order is not None:
                    moved = np.ascontiguousarray(constant.transpose(np.argsort(order)))
                    graph.read(each, position, graph.copy(index, moved, "moved"))
            graph.resize(int(each.outputs[0]), shape)
        first = chain[0]
        graph.read(first, list(map(int, first.inputs)).index(output), source)
        last = int(chain[-1].outputs[0])
        operator.inputs = np.array([last, *operator.inputs[1:]], np.int32)
        tensor = vars(graph.graph.tensors[last])
        graph.graph.tensors[output].quantization = tensor["quantization"]
        graph.graph.tensors[output].type = tensor["type"]
        graph.read(end, 0, output)
        operators = [each for each in graph.operators if each is not operator]
        operators.insert(next(i for i, each in enumerate(operators) if each is end), operator)
        graph.graph.operators = operators

    def _constants(self, operator: Any) -> list[int]:
        return [int(index) for index in operator.inputs if self.graph.constant(int(index)) is not None]


class ReshapeFirst(Rule):
    """A TRANSPOSE, then a RESHAPE that joins axes, then another TRANSPOSE: the RESHAPE first, so that the two meet."""

    def matches(self, operator: Any) -> bool:
        if self.graph.type(operator) != "RESHAPE":
            return False
        before, after = self.graph.writer(operator.inputs[0]), elementwise_chain(self.graph, operator)[1]
        if before is None or after is None:
            return False
        return self.graph.type(before) == self.graph.type(after) == "TRANSPOSE"

    def check(self, operator: Any) -> str:
        graph, before = self.graph, self.graph.writer(operator.inputs[0])
        order = _order(graph, before)
        if before is None or order is None or not graph.fixed(int(before.inputs[0]), int(operator.outputs[0])):
            return "sizes or the order are open"
        if graph.only_reader(operator.inputs[0]) is None:
            return "something else reads the tensor between"
        groups = _joined(graph.shape(int(operator.inputs[0])), graph.shape(int(operator.outputs[0])))
        if not groups:
            return "it splits axes"
        axes = [[order[axis] for axis in group] for group in groups]
        if any(group != list(range(group[0], group[0] + len(group))) for group in axes):
            return "it joins axes that are apart before the TRANSPOSE"
        return ""

    def rewrite(self, operator: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        graph, before = self.graph, self.graph.writer(operator.inputs[0])
        order = _order(graph, before)
        assert order is not None and before is not None
        middle, output = int(operator.inputs[0]), int(operator.outputs[0])
        joined = graph.shape(output)
        groups = _joined(graph.shape(middle), joined)
        starts = [order[group[0]] for group in groups]
        ranks = np.argsort(np.argsort(starts))
        shape = tuple(joined[number] for number in np.argsort(starts))
        new_order = graph.copy(int(before.inputs[1]), ranks.astype(np.int32), "joined")
        new_shape = graph.copy(int(operator.inputs[1]), np.array(shape, np.int32), "first")
        graph.resize(middle, shape)
        operator.opcodeIndex, before.opcodeIndex = before.opcodeIndex, operator.opcodeIndex
        for name in ("builtinOptions", "builtinOptionsType"):
            first, second = getattr(before, name), getattr(operator, name)
            setattr(before, name, second)
            setattr(operator, name, first)
        before.builtinOptions, before.builtinOptionsType = (
            schema.ReshapeOptionsT(np.array(shape, np.int32)),
            schema.BuiltinOptions.ReshapeOptions,
        )
        graph.read(before, 1, new_shape)
        graph.read(operator, 1, new_order)


class KeepReducedAxes(Rule):
    """A reduction whose result is reshaped to have the reduced axes, perhaps after operators on each element."""

    def matches(self, operator: Any) -> bool:
        if self.graph.type(operator) not in _REDUCTIONS:
            return False
        return not operator.builtinOptions.keepDims and bool(self._group(operator)[1])

    def check(self, operator: Any) -> str:
        graph, (tensors, reshapes, other) = self.graph, self._group(operator)
        if other:
            return f"{other} uses it without those axes"
        axes, source = graph.constant(int(operator.inputs[1])), int(operator.inputs[0])
        if axes is None or not graph.fixed(source, *tensors):
            return "its axes or sizes are open"
        kept = self._kept(operator)
        if any(graph.shape(int(each.outputs[0])) != kept for each in reshapes):
            return "it is reshaped to something else"
        return next((why for each in reshapes if (why := _kept(graph, each))), "")

    def rewrite(self, operator: Any) -> None:
        tensors, reshapes, _ = self._group(operator)
        kept = self._kept(operator)
        for index in tensors:
            self.graph.resize(index, kept)
            writer = self.graph.writer(index)
            if writer is not None and self.graph.type(writer) in _REDUCTIONS:
                writer.builtinOptions.keepDims = True
        for reshape in reshapes:
            self.graph.bypass(reshape)

    def _kept(self, operator: Any) -> Shape:
        shape, axes = self.graph.shape(int(operator.inputs[0])), self.graph.constant(int(operator.inputs[1]))
        if axes is None:
            return ()
        reduced = {int(axis) % len(shape) for axis in axes.flat}
        return tuple(1 if axis in reduced else size for axis, size in enumerate(shape))

    def _group(self, operator: Any) -> tuple[list[int], list[Any], str]:
        """The tensors of the result's shape that are computed with it, the RESHAPEs of them, and what else is there."""
        graph, first, kept = self.graph, int(operator.outputs[0]), self._kept(operator)
        tensors, reshapes, other = [first], [], ""
        outputs = set(map(int, graph.graph.outputs))
        for index in tensors:
            writer = graph.writer(index)
            near = [reader for reader in graph.readers(index) if graph.type(reader) != "RESHAPE"]
            reshapes += [reader for reader in graph.readers(index) if graph.type(reader) == "RESHAPE"]
            if index in outputs or writer is None:
                other = "the model's input or output"
            elif graph.type(writer) not in _REDUCTIONS:
                near.append(writer)
            elif writer.builtinOptions.keepDims or self._kept(writer) != kept:
                other = "another reduction"
            for each in near:
                data = [int(i) for i in (*each.inputs, *each.outputs) if (graph.constant(int(i)) is None)]
                constants = [graph.constant(int(i)) for i in each.inputs]
                scalar = all(constant is None or constant.size == 1 for constant in constants)
                same = all(graph.shape(each) == graph.shape(first) for each in data)
                if graph.type(each) not in _UNARY | _BINARY or not scalar or not same:
                    other = other or graph.type(each)
                    continue
                tensors += [each for each in dict.fromkeys(data) if each not in tensors]
        return tensors, reshapes, other


def _joined(shape: Shape, joined: Shape) -> list[list[int]]:
    """Which axes of `shape` each axis of `joined` consists of; empty where it is not so."""
    groups: list[list[int]] = []
    axis = 0
    for size in joined:
        group, product = [axis], shape[axis] if axis < len(shape) else 0
        while product < size and group[-1] + 1 < len(shape):
            group.append(group[-1] + 1)
            product *= shape[group[-1]]
        if product != size:
            return []
        groups.append(group)
        axis = group[-1] + 1
    return groups if axis == len(shape) else []


class MeanInPlace(Rule):
    """A reduction over the axes of the layout that a TRANSPOSE would only change for it.

    In float, the values are added in another order: the last bit may differ.
    """

    def matches(self, operator: Any) -> bool:
        before = self.graph.writer(operator.inputs[0])
        reduces = self.graph.type(operator) in _REDUCTIONS
        return reduces and before is not None and self.graph.type(before) == "TRANSPOSE"

    def check(self, operator: Any) -> str:
        graph, axes = self.graph, self.graph.constant(int(operator.inputs[1]))
        order = _order(graph, graph.writer(operator.inputs[0]))
        if order is None or axes is None:
            return "its axes are no constant"
        if operator.builtinOptions.keepDims:
            return "it keeps the reduced axes where they are"
        if graph.only_reader(operator.inputs[0]) is None:
            return "something else reads the transposed tensor"
        reduced = {int(axis) % len(order) for axis in axes.flat}
        left = [source for axis, source in enumerate(order) if axis not in reduced]
        return "" if left == sorted(left) else "the axes that are left would change places"

    def rewrite(self, operator: Any) -> None:
        graph, before = self.graph, self.graph.writer(operator.inputs[0])
        order, axes = _order(graph, before), graph.constant(int(operator.inputs[1]))
        assert order is not None and axes is not None and before is not None
        moved = sorted(order[int(axis)] for axis in axes.flat)
        values = np.array(moved, axes.dtype).reshape(axes.shape)
        graph.read(operator, 1, graph.copy(int(operator.inputs[1]), values, "in place"))
        graph.read(operator, 0, int(before.inputs[0]))
        graph.changed()
        _remove_unread(graph, before)


class DenseInPlace(Rule):
    """A TRANSPOSE before a RESHAPE to rows for a dense layer: its weights change places instead.

    In integers only: a sum of floats depends on its order.
    """

    def matches(self, operator: Any) -> bool:
        return self._chain(operator) is not None

    def check(self, operator: Any) -> str:
        graph, chain = self.graph, self._chain(operator)
        assert chain is not None
        before, reshape = chain
        weights, order = graph.constant(int(operator.inputs[1])), _order(graph, before)
        shape = graph.shape(int(before.inputs[0]))
        if weights is None or order is None:
            return "its weights or the order are no constants"
        if weights.dtype != np.int8 or graph.dtype(int(operator.inputs[0])) != "int8":
            return "a sum of floats depends on its order"
        if order[0] != 0 or graph.shape(int(reshape.outputs[0])) != (shape[0], math.prod(shape[1:])):
            return "the rows of the dense layer are not the samples"
        if not graph.fixed(int(before.inputs[0]), int(reshape.outputs[0])):
            return "sizes are open"
        between = (int(before.outputs[0]), int(reshape.outputs[0]))
        return "" if all(map(graph.only_reader, between)) else "something else reads the tensor between"

    def rewrite(self, operator: Any) -> None:
        graph, chain = self.graph, self._chain(operator)
        assert chain is not None
        before = chain[0]
        order, weights = _order(graph, before), graph.constant(int(operator.inputs[1]))
        assert order is not None and weights is not None
        shape = graph.shape(int(before.outputs[0]))[1:]
        back = np.argsort(order)
        moved = weights.reshape(-1, *shape).transpose(0, *back[1:]).reshape(weights.shape)
        graph.read(operator, 1, graph.copy(int(operator.inputs[1]), np.ascontiguousarray(moved), "moved"))
        graph.bypass(before)

    def _chain(self, operator: Any) -> tuple[Any, Any] | None:
        graph = self.graph
        if graph.type(operator) != "FULLY_CONNECTED":
            return None
        reshape = graph.writer(operator.inputs[0])
        before = graph.writer(reshape.inputs[0]) if reshape is not None else None
        if before is None or (graph.type(before), graph.type(reshape)) != ("TRANSPOSE", "RESHAPE"):
            return None
        return before, reshape


class TransposeOfOnes(Rule):
    """A TRANSPOSE that only moves axes of size 1, before a RESHAPE."""

    def matches(self, operator: Any) -> bool:
        readers = self.graph.readers(operator.outputs[0])
        is_transpose = self.graph.type(operator) == "TRANSPOSE"
        return is_transpose and bool(readers) and all(self.graph.type(each) == "RESHAPE" for each in readers)

    def check(self, operator: Any) -> str:
        graph, order = self.graph, _order(self.graph, operator)
        if order is None or not graph.fixed(int(operator.inputs[0])):
            return "its order or sizes are open"
        shape = graph.shape(int(operator.inputs[0]))
        moved = [axis for axis in order if shape[axis] != 1]
        return _kept(graph, operator) if moved == sorted(moved) else "it moves values"

    def rewrite(self, operator: Any) -> None:
        self.graph.bypass(operator)


class MergeReshapes(Rule):
    """A RESHAPE of a RESHAPE, or to the shape that its input has."""

    def matches(self, operator: Any) -> bool:
        if self.graph.type(operator) != "RESHAPE":
            return False
        before = self.graph.writer(operator.inputs[0])
        return self._idle(operator) or (before is not None and self.graph.type(before) == "RESHAPE")

    def check(self, operator: Any) -> str:
        graph = self.graph
        if not graph.fixed(int(operator.inputs[0]), int(operator.outputs[0])):
            return "sizes are open"
        return _kept(graph, operator) if self._idle(operator) else ""

    def rewrite(self, operator: Any) -> None:
        graph, before = self.graph, self.graph.writer(operator.inputs[0])
        if self._idle(operator):
            graph.bypass(operator)
            return
        assert before is not None
        graph.read(operator, 0, int(before.inputs[0]))
        graph.changed()
        _remove_unread(graph, before)

    def _idle(self, operator: Any) -> bool:
        ends = int(operator.inputs[0]), int(operator.outputs[0])
        return self.graph.shape(ends[0]) == self.graph.shape(ends[1])


def elementwise_chain(graph: Graph, operator: Any) -> tuple[list[Any], Any | None]:
    """The operators on each element by itself that alone follow, and what comes after them."""
    chain: list[Any] = []
    reader = graph.only_reader(operator.outputs[0])
    while reader is not None and _elementwise(graph, reader):
        chain.append(reader)
        reader = graph.only_reader(reader.outputs[0])
    return chain, reader


def _elementwise(graph: Graph, operator: Any) -> bool:
    """Does it compute each element from that of one tensor and constants?"""
    data = [int(index) for index in operator.inputs if graph.constant(int(index)) is None]
    scales = [graph.scale(int(index)) for index in (*operator.inputs, *operator.outputs)]
    if len(data) != 1 or any(scale and len(scale[0]) > 1 for scale in scales):
        return False
    return graph.type(operator) in _UNARY | _BINARY and graph.shape(int(operator.outputs[0])) == graph.shape(data[0])


def _order(graph: Graph, operator: Any) -> tuple[int, ...] | None:
    """The order of a TRANSPOSE's axes."""
    if operator is None or graph.type(operator) != "TRANSPOSE":
        return None
    order = graph.constant(int(operator.inputs[1]))
    return None if order is None else tuple(map(int, order))


def _kept(graph: Graph, operator: Any) -> str:
    """Why an operator without effect stays."""
    return "its output is the model's" if operator.outputs[0] in graph.graph.outputs else ""


def _remove_unread(graph: Graph, operator: Any) -> None:
    output = operator.outputs[0]
    if not graph.readers(output) and output not in graph.graph.outputs:
        graph.remove(operator)
