"""Rewrite rules for TFLite graphs: a pattern, a check that gives its reason, and a rewrite.

As `onnx_rules`, on the schema's objects: a rule sees the graph as the rewrites before it left it, since one opens the
way for another (a TRANSPOSE that moves up to its inverse).
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOG = logging.getLogger(__name__)

Shape = tuple[int, ...]


class Graph:
    """A subgraph of a ModelT, with what the rules ask of it. Tensors are named by their index."""

    def __init__(self, model: Any, graph: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model, self.graph = model, graph
        self._types = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        self._dtypes = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}

    @property
    def operators(self) -> list[Any]:
        operators: list[Any] = self.graph.operators
        return operators

    def type(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return str(self._types[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def name(self, index: int) -> str:
        return str(self.graph.tensors[index].name.decode())

    def shape(self, index: int) -> Shape:
        shape = self.graph.tensors[index].shape
        return () if shape is None else tuple(map(int, shape))

    def dtype(self, index: int) -> str:
        return str(self._dtypes[self.graph.tensors[index].type])

    def fixed(self, *indices: int) -> bool:
        """Are the sizes of these tensors known?"""
        signatures = (self.graph.tensors[index].shapeSignature for index in indices)
        return not any(signature is not None and -1 in signature for signature in signatures)

    def constant(self, index: int) -> NDArray[Any] | None:
        data = self.model.buffers[self.graph.tensors[index].buffer].data if index >= 0 else None
        if data is None or not len(data) or self.dtype(index) not in _NUMPY:
            return None
        return np.frombuffer(bytes(data), _NUMPY[self.dtype(index)]).reshape(self.shape(index))

    def scale(self, index: int) -> tuple[Any, ...]:
        """Scales and zero points; empty for a tensor without."""
        quantization = self.graph.tensors[index].quantization
        if quantization is None or quantization.scale is None:
            return ()
        zero_points = () if quantization.zeroPoint is None else tuple(map(int, quantization.zeroPoint))
        return tuple(map(float, quantization.scale)), zero_points

    @cached_property
    def _readers(self) -> dict[int, list[Any]]:
        readers: dict[int, list[Any]] = {}
        for operator in self.operators:
            for index in dict.fromkeys(map(int, operator.inputs)):
                readers.setdefault(index, []).append(operator)
        return readers

    @cached_property
    def _writers(self) -> dict[int, Any]:
        return {int(index): operator for operator in self.operators for index in operator.outputs}

    def writer(self, index: int) -> Any | None:
        return self._writers.get(int(index))

    def readers(self, index: int) -> list[Any]:
        return self._readers.get(int(index), [])

    def only_reader(self, index: int) -> Any | None:
        """The operator that alone reads a tensor; None for an output of the model."""
        readers = self.readers(index)
        return readers[0] if len(readers) == 1 and index not in map(int, self.graph.outputs) else None

    def changed(self) -> None:
        for name in ("_readers", "_writers"):
            self.__dict__.pop(name, None)

    def read(self, operator: Any, position: int, index: int) -> None:
        """Let the operator read another tensor at this position."""
        inputs = list(map(int, operator.inputs))
        inputs[position] = index
        operator.inputs = np.array(inputs, np.int32)

    def bypass(self, operator: Any) -> None:
        """Remove an operator: what read its output reads its first input."""
        source, output = int(operator.inputs[0]), int(operator.outputs[0])
        for reader in self.readers(output):
            for position, index in enumerate(reader.inputs):
                if index == output:
                    self.read(reader, position, source)
        self.remove(operator)

    def remove(self, operator: Any) -> None:
        self.graph.operators = [other for other in self.operators if other is not operator]
        self.changed()

    def copy(self, index: int, array: NDArray[Any], suffix: str) -> int:
        """A constant like another one, with other values."""
        from ai_edge_litert import schema_py_generated as schema

        old = self.graph.tensors[index]
        new = schema.TensorT(**vars(old))
        new.shape, new.shapeSignature = np.array(array.shape, np.int32), None
        taken = {tensor.name for tensor in self.graph.tensors}
        names = (f"{self.name(index)}/{suffix}{number or ''}".encode() for number in itertools.count())
        new.buffer, new.name = len(self.model.buffers), next(name for name in names if name not in taken)
        self.model.buffers.append(schema.BufferT(np.frombuffer(array.tobytes(), np.uint8)))
        self.graph.tensors.append(new)
        return len(self.graph.tensors) - 1

    def resize(self, index: int, shape: Shape) -> None:
        tensor = self.graph.tensors[index]
        tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), None


_NUMPY = {
    name: np.dtype(name)
    for name in ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
}


class Rule(ABC):
    """One edit of one graph, at an operator."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @abstractmethod
    def matches(self, operator: Any) -> bool:
        """The pattern."""

    @abstractmethod
    def check(self, operator: Any) -> str:
        """Why the rule does not apply to an operator that has the pattern, in a clause; "" if it applies."""

    @abstractmethod
    def rewrite(self, operator: Any) -> None:
        """Edit the graph."""


@dataclass(frozen=True)
class Decision:
    """Where a rule's pattern was found; `refused` is the reason why it was not applied there."""

    rule: str
    operator: str
    refused: str = ""


def apply(rules: Sequence[type[Rule]], graph: Graph) -> tuple[Decision, ...]:
    """Rewrite the graph until no rule applies any more; the refusals are those of the last pass."""
    applied: list[Decision] = []
    built = [rule(graph) for rule in rules]
    while True:
        refused: list[Decision] = []
        done = len(applied)
        for rule in built:
            for operator in list(graph.operators):
                if any(operator is other for other in graph.operators) and rule.matches(operator):
                    where = graph.name(int(operator.outputs[0]))
                    decision = Decision(type(rule).__name__, where, rule.check(operator))
                    (refused if decision.refused else applied).append(decision)
                    if not decision.refused:
                        rule.rewrite(operator)
                        graph.changed()
        if len(applied) == done:
            break
    for decision in refused:
        LOG.debug("%s not applied to %s: %s", decision.rule, decision.operator, decision.refused)
    return (*applied, *refused)


def drop_unread(model: Any) -> None:
    """Remove tensors, constants and operator codes that nothing uses."""
    used_codes = sorted({operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in used_codes]
    for number, graph in enumerate(model.subgraphs):
        lists = [graph.inputs, graph.outputs]
        for operator in graph.operators:
            operator.opcodeIndex = used_codes.index(operator.opcodeIndex)
            lists += [operator.inputs, operator.outputs, operator.intermediates]
        used = sorted({int(index) for indices in lists if indices is not None for index in indices if index >= 0})
        new = {old: index for index, old in enumerate(used)} | {-1: -1}

        def renumbered(indices: Any, new: dict[int, int] = new) -> Any:
            return None if indices is None else np.array([new[int(index)] for index in indices], np.int32)

        graph.tensors = [graph.tensors[index] for index in used]
        graph.inputs, graph.outputs = renumbered(graph.inputs), renumbered(graph.outputs)
        for operator in graph.operators:
            operator.inputs, operator.outputs = renumbered(operator.inputs), renumbered(operator.outputs)
            operator.intermediates = renumbered(operator.intermediates)
        for signature in model.signatureDefs or []:
            if signature.subgraphIndex == number:
                for entry in (*(signature.inputs or ()), *(signature.outputs or ())):
                    entry.tensorIndex = new[entry.tensorIndex]
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in model.metadata or []} | set(map(int, model.metadataBuffer or ()))
    for index, buffer in enumerate(model.buffers):
        if index not in read:
            buffer.data = None
