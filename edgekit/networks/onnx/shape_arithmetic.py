"""Shape arithmetic: operators on plain numbers and flat lists, which may be symbolic.

A function returns NotImplemented for cases that need tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import floor
from typing import Any

import torch

from edgekit.networks.onnx.operators import Node, as_list, scalar

SHAPE_FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function applied elementwise; single numbers and lists of length one are broadcast."""

    def over(node: Node, *values: Any) -> Any:
        length = max((len(value) for value in values if isinstance(value, list)), default=None)
        if length is None:
            return function(*values)
        if any(isinstance(value, list) and len(value) not in (1, length) for value in values):
            return NotImplemented
        spread = [value * length if isinstance(value, list) and len(value) == 1 else value for value in values]
        columns = [value if isinstance(value, list) else [value] * length for value in spread]
        return [function(*row) for row in zip(*columns, strict=True)]

    return over


def _quotient(a: Any, b: Any) -> Any:
    """Integers are divided towards zero."""
    if isinstance(a, float | torch.SymFloat) or isinstance(b, float | torch.SymFloat):
        return a / b
    known = isinstance(a, int) and isinstance(b, int)
    return -(-a // b) if known and (a < 0) != (b < 0) else a // b


def _remainder(node: Node, a: Any, b: Any) -> Any:
    """With the sign of the divisor; with `fmod`, of the dividend."""
    return a - b * _quotient(a, b) if node.get("fmod", 0) else a % b


SHAPE_FUNCTIONS |= {
    "Add": _each(lambda a, b: a + b),
    "And": _each(lambda a, b: a and b),
    "Ceil": _each(lambda a: -floor(-a)),
    "Div": _each(_quotient),
    "Equal": _each(lambda a, b: bool(a == b)),
    "Floor": _each(floor),
    "Greater": _each(lambda a, b: bool(a > b)),
    "Less": _each(lambda a, b: bool(a < b)),
    "Max": _each(max),
    "Min": _each(min),
    "Mod": lambda node, a, b: _each(lambda x, y: _remainder(node, x, y))(node, a, b),
    "Mul": _each(lambda a, b: a * b),
    "Neg": _each(lambda a: -a),
    "Not": _each(lambda a: not a),
    "Or": _each(lambda a, b: a or b),
    "Sqrt": _each(lambda a: torch.sym_sqrt(a) if isinstance(a, torch.SymFloat) else a**0.5),
    "Sub": _each(lambda a, b: a - b),
    "Where": _each(lambda condition, a, b: a if condition else b),
    "Identity": lambda node, value: value,
}


def _register(type: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        SHAPE_FUNCTIONS[type] = function
        return function

    return register


@_register("Cast")
def cast(node: Node, value: Any) -> Any:
    kind = node.get("to")
    if kind in (1, 10, 11, 16):
        return _each(torch.sym_float)(node, value)
    return NotImplemented if kind == 9 else _each(torch.sym_int)(node, value)


@_register("Concat")
def concat(node: Node, *values: Any) -> Any:
    return [number for value in values for number in as_list(value)]


@_register("Gather")
def gather(node: Node, values: Any, index: Any) -> Any:
    return [values[i] for i in index] if isinstance(index, list) else values[index]


@_register("Slice")
def slices(node: Node, values: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    first = node.get("starts")[0] if starts is None else scalar(starts)
    last = node.get("ends")[0] if ends is None else scalar(ends)
    return values[first : last : 1 if steps is None else scalar(steps)]


@_register("Split")
def split(node: Node, values: Any, sizes: Any = None) -> Any:
    sizes = node.get("split") if sizes is None else as_list(sizes)
    if sizes is None:
        each = -(-len(values) // len(node.outputs))
        sizes = [each] * len(node.outputs)
    edges = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    return tuple(values[a:b] for a, b in pairwise(edges))


@_register("Squeeze")
def squeeze(node: Node, value: Any, axes: Any = None) -> Any:
    return scalar(value) if len(as_list(value)) == 1 else value


@_register("Unsqueeze")
def unsqueeze(node: Node, value: Any, axes: Any = None) -> Any:
    return NotImplemented if isinstance(value, list) else [value]


@_register("Reshape")
def reshape(node: Node, value: Any, target: Any) -> Any:
    """To one axis, or to a scalar."""
    if len(as_list(target)) > 1:
        return NotImplemented
    return as_list(value) if as_list(target) else scalar(value)


@_register("ReduceProd")
def product(node: Node, value: Any, axes: Any = None) -> Any:
    result: Any = 1
    for number in as_list(value):
        result = result * number
    return [result] if node.get("keepdims", 1) else result


@_register("Range")
def numbers(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    ends = [scalar(value) for value in (start, limit, delta)]
    return list(range(*ends)) if all(isinstance(value, int) for value in ends) else NotImplemented


@_register("Expand")
def expand(node: Node, value: Any, target: Any) -> Any:
    target = as_list(target)
    if len(target) != 1 or len(as_list(value)) != 1:
        return NotImplemented
    return as_list(value) * target[0] if isinstance(target[0], int) else NotImplemented


@_register("ConstantOfShape")
def constant_of_shape(node: Node, sizes: Any) -> Any:
    """A list of the given length; a number for no axes."""
    value = node.attributes["value"].item() if "value" in node.attributes else 0.0
    if not isinstance(sizes, list) or len(sizes) > 1 or not all(isinstance(n, int) for n in sizes):
        return NotImplemented
    return [value] * sizes[0] if sizes else value
