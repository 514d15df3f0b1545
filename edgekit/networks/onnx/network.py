"""A torch module that runs an ONNX graph node by node, traceable by torch.export."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.errors import EdgekitError
from edgekit.networks.onnx.graph import SHORT, Graph
from edgekit.networks.onnx.operators import TABLE, Node
from edgekit.networks.onnx.shape_arithmetic import SHAPE_FUNCTIONS


class OnnxNetwork(nn.Module):
    """Inputs in the graph's order; the output is a tensor, or a tuple.

    Floating-point constants are parameters of `weights`, others its buffers, under their names in the file as far as
    torch allows. `outputs` are the types of the outputs in the file, because half precision is computed in float32.
    """

    def __init__(self, graph: Graph, outputs: Sequence[torch.dtype]) -> None:
        super().__init__()
        self.graph, self.types = graph, tuple(outputs)
        self.weights = nn.Module()
        self.attribute_names: dict[str, str] = {}
        self.numbers: dict[str, Any] = {}
        for name, tensor in graph.constants.items():
            attribute = self._attribute_name(name)
            if tensor.is_floating_point():
                self.weights.register_parameter(attribute, nn.Parameter(tensor, requires_grad=False))
            else:
                self.weights.register_buffer(attribute, tensor)
            self.attribute_names[name] = attribute
        for node in graph.nodes:
            for index, name in enumerate(node.inputs):
                constant = graph.constants.get(name)
                if constant is None:
                    continue
                short = constant.ndim <= 1 and constant.numel() <= SHORT
                if TABLE[node.type].is_number(index, constant) or (short and _on_numbers(graph, node)):
                    self.numbers[name] = constant.tolist()
        self.last = _last_uses(graph)

    def forward(self, *inputs: Tensor) -> Any:
        values: dict[str, Any] = {}
        for name, value in zip(self.graph.inputs, inputs, strict=True):
            values[name] = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        for node, done in zip(self.graph.nodes, self.last, strict=True):
            results = self._run(node, values)
            for name, value in zip(node.outputs, results, strict=False):
                values[name] = value
            for name in done:
                values.pop(name, None)
        outputs = [
            self._tensor(name, values).to(kind) for name, kind in zip(self.graph.outputs, self.types, strict=True)
        ]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _run(self, node: Node, values: Mapping[str, Any]) -> tuple[Any, ...]:
        result: Any = NotImplemented
        try:
            if node.type in SHAPE_FUNCTIONS and _on_numbers(self.graph, node):
                arguments = [self._number(name, values) for name in node.inputs]
                if not any(isinstance(value, Tensor) for value in arguments):
                    result = SHAPE_FUNCTIONS[node.type](node, *arguments)
            if result is NotImplemented:
                result = TABLE[node.type].function(node, *self._arguments(node, values))
        except (EdgekitError, MemoryError):
            raise
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
            raise node.conversion_error(" ".join(str(error).split())[:200]) from error
        return result if isinstance(result, tuple) else (result,)

    def _arguments(self, node: Node, values: Mapping[str, Any]) -> list[Any]:
        operator = TABLE[node.type]
        results: list[Any] = []
        for index, name in enumerate(node.inputs):
            if index in operator.shape_inputs | operator.optional_shape_inputs:
                value = self._number(name, values)
                if index in operator.shape_inputs and isinstance(value, Tensor):
                    raise node.conversion_error("its shapes, axes or sizes are computed from the data")
                results.append(value)
            else:
                results.append(self._tensor(name, values) if name else None)
        return results

    def _number(self, name: str, values: Mapping[str, Any]) -> Any:
        """The number or list if known, else the tensor."""
        if not name:
            return None
        if name in values:
            return values[name]
        return self.numbers[name] if name in self.numbers else self._tensor(name, values)

    def _tensor(self, name: str, values: Mapping[str, Any]) -> Tensor:
        if name not in values:
            tensor: Tensor = getattr(self.weights, self.attribute_names[name])
            return tensor
        value = values[name]
        return value if isinstance(value, Tensor) else _as_tensor(value)

    def _attribute_name(self, name: str) -> str:
        """A unique, valid attribute name."""
        attribute = re.sub(r"\W", "_", name) or "constant"
        while hasattr(self.weights, attribute):
            attribute += "_"
        return attribute


def _on_numbers(graph: Graph, node: Node) -> bool:
    return node.type not in ("Shape", "Size") and any(name in graph.numeric for name in node.outputs)


def _last_uses(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """For each node, the values that are not used after it."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last |= dict.fromkeys((*node.inputs, *node.outputs), index)
    done: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        if name not in graph.outputs:
            done[index].append(name)
    return tuple(map(tuple, done))


def _as_tensor(value: Any) -> Tensor:
    """Numbers, which may be symbolic, as a tensor."""
    if isinstance(value, list):
        if all(isinstance(number, bool | int | float) for number in value):
            is_integer = all(isinstance(number, int) for number in value)
            return torch.tensor(value, dtype=None if value or not is_integer else torch.int64)
        return torch.stack([_as_tensor(number) for number in value])
    if isinstance(value, bool):
        return torch.tensor(value)
    real = isinstance(value, float | torch.SymFloat)
    return torch.scalar_tensor(value, dtype=torch.float32 if real else torch.int64)
