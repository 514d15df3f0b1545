"""The operator table: ONNX operator → its implementation in torch.

A function takes the node and its inputs (None for an omitted optional one) and returns a value or a tuple. Inputs are
tensors, except those that determine shapes (`shape_inputs`: axes, the target of a Reshape): these are plain numbers or
flat lists, through which torch.export can trace a symbolic batch size. `optional_shape_inputs` are numbers if known,
else tensors. Attributes follow the model's opset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from edgekit.core.errors import CannotConvert

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Node:
    """One node of an ONNX graph; `opset` is the model's operator set version."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, attribute: str, default: Any = None) -> Any:
        return self.attributes.get(attribute, default)

    def has_output(self, output: int) -> bool:
        """Whether this output is used."""
        return len(self.outputs) > output and bool(self.outputs[output])

    def conversion_error(self, why: str) -> CannotConvert:
        next = "bench or quantize the ONNX file itself, or use another format"
        return CannotConvert(f"cannot convert {self.type} {self.name!r} to torch", why, next)


@dataclass(frozen=True)
class Operator:
    function: Callable[..., Any]
    shape_inputs: frozenset[int]
    optional_shape_inputs: frozenset[int]

    def is_number(self, index: int, constant: Tensor) -> bool:
        """Is this constant input taken as a number or a flat list?"""
        return index in self.shape_inputs or (index in self.optional_shape_inputs and constant.ndim < 2)


TABLE: dict[str, Operator] = {}

#: supported ONNX element types; half precision is computed in float32
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


def operator(
    *types: str, shape_inputs: Sequence[int] = (), optional_shape_inputs: Sequence[int] = ()
) -> Callable[[F], F]:
    """Register a function, with the positions of the inputs that it takes as numbers."""

    def register(function: F) -> F:
        for type in types:
            TABLE[type] = Operator(function, frozenset(shape_inputs), frozenset(optional_shape_inputs))
        return function

    return register


def dtype(node: Node, element: int) -> torch.dtype:
    """Raises CannotConvert for an unsupported type."""
    if element not in DTYPES:
        raise node.conversion_error(f"torch does not compute with element type {element}")
    return DTYPES[element]


def scalar(value: Any) -> Any:
    """The number, which may be a list of length one."""
    return value[0] if isinstance(value, list) else value


def as_list(value: Any) -> list[Any]:
    """The numbers as a list; a single number becomes a list of length one."""
    return list(value) if isinstance(value, list | tuple) else [value]
