"""The table of operators: ONNX's name → the function that does the same with torch.

A function takes the node and its inputs, None where an optional one is left out, and gives one value or a tuple. Its
inputs are tensors, but for those that decide shapes (`control`: axes, the target of a Reshape), which it gets as plain
numbers, or flat lists of them: torch.export can trace through these, and an open batch stays a symbol among them.
`soft` ones are numbers where these are known, else tensors. Attributes mean what the model's opset says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from edgekit.core.errors import CannotConvert

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Node:
    """One node of an ONNX graph; `opset` is the version of the operators it is written in."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, attribute: str, default: Any = None) -> Any:
        return self.attributes.get(attribute, default)

    def wants(self, output: int) -> bool:
        """Is this output used?"""
        return len(self.outputs) > output and bool(self.outputs[output])

    def refuse(self, why: str) -> CannotConvert:
        next = "bench or quantize the file as it is, or use another format"
        return CannotConvert(f"cannot convert {self.type} {self.name!r} to torch", why, next)


@dataclass(frozen=True)
class Operator:
    function: Callable[..., Any]
    control: frozenset[int]
    soft: frozenset[int]


TABLE: dict[str, Operator] = {}

#: ONNX's element types, those that torch computes with; half precision is computed in float32
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,
    11: torch.float64,
    16: torch.float32,
}


def operator(*types: str, control: Sequence[int] = (), soft: Sequence[int] = ()) -> Callable[[F], F]:
    """Enter a function into the table, with the positions of inputs that it gets as numbers."""

    def enter(function: F) -> F:
        for type in types:
            TABLE[type] = Operator(function, frozenset(control), frozenset(soft))
        return function

    return enter


def dtype(node: Node, element: int) -> torch.dtype:
    """Raises CannotConvert for a type that torch does not compute with."""
    if element not in DTYPES:
        raise node.refuse(f"torch does not compute with element type {element}")
    return DTYPES[element]


def one(value: Any) -> Any:
    """The number itself, where it may stand alone in a list."""
    return value[0] if isinstance(value, list) else value


def many(value: Any) -> list[Any]:
    """The numbers as a list, where a single one may stand alone."""
    return list(value) if isinstance(value, list | tuple) else [value]
