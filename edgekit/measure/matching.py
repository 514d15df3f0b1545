"""Match the inputs and outputs of two models that were not made from each other: by name, else by position and shape.

Arrays have the samples on their first axis. An image may be channels first in one model and channels last in the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import Array

#: orders of the axes of a sample that an array of its rank may be stored in, besides its own
LAYOUTS = {3: {"channels last": (0, 2, 3, 1), "channels first": (0, 3, 1, 2)}}

#: the most tensors whose orders are tried
MOST = 6

Shape = tuple[int | None, ...]


def inputs(data: SampleSet, of: Sequence[TensorSpec], to: Sequence[TensorSpec]) -> tuple[SampleSet, list[str]]:
    """Samples of one model's inputs as the other takes them, and how they were changed, one sentence each.

    Raises InputError if it is not clear which input is which.
    """
    names = [spec.name for spec in of if spec.name in data.inputs]
    if len(names) != len(data.inputs):  # the only array for the only input
        names = list(data.inputs)
    arrays = {name: data.inputs[name] for name in names}
    shapes = {spec.name: spec.sample_shape for spec in to}
    pairs = _pairs({name: array.shape[1:] for name, array in arrays.items()}, shapes, "inputs")
    matched, notes = {}, []
    for name, other in pairs.items():
        array, note = _as_shape(arrays[name], shapes[other])
        matched[other] = array
        if note or name != other:
            notes.append(f"input {name} is {other}" + (f", {note}" if note else ""))
    more = tuple(inputs(extra, of, to)[0] for extra in data.more)
    sha256 = data.sha256 if not notes else f"{data.sha256}/{'; '.join(notes)}"
    return dataclasses.replace(data, inputs=matched, sha256=sha256, more=more), notes


def outputs(reference: Mapping[str, Array], other: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """The other model's outputs under the names, in the order and in the layout of the reference's, and how they were
    changed. Outputs whose number or shapes do not match stay as they are.
    """
    try:
        pairs = _pairs({n: a.shape[1:] for n, a in reference.items()}, {n: a.shape[1:] for n, a in other.items()}, "")
    except InputError:
        return dict(other), []
    matched, notes = {}, []
    for name, second in pairs.items():
        array, note = _as_shape(other[second], reference[name].shape[1:])
        matched[name] = array
        if note or name != second:
            notes.append(f"output {second} is {name}" + (f", {note}" if note else ""))
    return matched, notes


def _pairs(first: Mapping[str, Shape], second: Mapping[str, Shape], what: str) -> dict[str, str]:
    """Name → the other's name: equal names, else in order, else the only order in which the shapes fit.

    Raises InputError.
    """
    if set(first) == set(second):
        return {name: name for name in first}
    shown = f"{_shown(first)} and {_shown(second)}"
    if len(first) != len(second):
        raise InputError(f"the two models have different {what}", shown, "compare models of the same task")
    if all(_agree(a, b) for a, b in zip(first.values(), second.values(), strict=True)):
        return dict(zip(first, second, strict=True))
    orders = permutations(second) if len(second) <= MOST else iter(())
    fitting = [o for o in orders if all(_agree(a, second[name]) for a, name in zip(first.values(), o, strict=True))]
    if len(fitting) != 1:
        why = "no order of them fits" if not fitting else "several orders of them fit"
        raise InputError(f"the {what} of the two models cannot be matched: {why}", shown, "give them the same names")
    return dict(zip(first, fitting[0], strict=True))


def _agree(shape: Shape, other: Shape) -> bool:
    return _fits(shape, other) or any(
        _fits(_moved(shape, axes), other) for axes in LAYOUTS.get(len(shape), {}).values()
    )


def _fits(shape: Shape, other: Shape) -> bool:
    return len(shape) == len(other) and all(None in (a, b) or a == b for a, b in zip(shape, other, strict=True))


def _moved(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(shape[axis - 1] for axis in axes[1:])


def _as_shape(array: Array, shape: Shape) -> tuple[Array, str]:
    """The array in the layout of that shape, and how it was changed; as it is if that fits or no layout alone does."""
    if _fits(array.shape[1:], shape):
        return array, ""
    layouts = LAYOUTS.get(array.ndim - 1, {})
    fitting = [(name, axes) for name, axes in layouts.items() if _fits(_moved(array.shape[1:], axes), shape)]
    if len(fitting) != 1:
        return array, ""
    name, axes = fitting[0]
    return np.ascontiguousarray(array.transpose(axes)), f"transposed to {name}"


def _shown(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(_each(shapes)) or "none"


def _each(shapes: Mapping[str, Shape]) -> Iterator[str]:
    for name, shape in shapes.items():
        yield f"{name} {'x'.join('?' if size is None else str(size) for size in shape) or 'one value'}"
