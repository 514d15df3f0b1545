"""Arrays as users save them, one per input, as a sample set holds them: the sample is the first axis.

An input whose batch is its first axis keeps its rank. Any other gets an axis more, so that each sample is a whole one:
a state of shape (2, N, 128) becomes (N, 2, 1, 128), a scalar (N,). What was given once is repeated for every sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError

Arrays = Mapping[str, NDArray[np.generic]]


def per_sample(
    path: Path, arrays: Arrays, specs: Sequence[TensorSpec], labels: int | None
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """The arrays with the sample as first axis, and notes on those that are the same for all samples.

    `labels`: their number, if there are any. An array that does not fit its input at all stays as it is. Raises
    InputError if the numbers of samples differ.
    """
    by_name = {spec.name: spec for spec in specs}
    if len(specs) == len(arrays) == 1:
        by_name = {next(iter(arrays)): specs[0]}
    counts = {name: _count(array, by_name.get(name)) for name, array in arrays.items()}
    misfits = [len(array) for name, array in arrays.items() if _lacks_axes(array, by_name.get(name))]
    total = labels or max([count for count in counts.values() if count], default=max(misfits, default=1))
    result, notes = {}, []
    for name, array in arrays.items():
        placed = _placed(array, by_name.get(name), total)
        if len(placed) == 1 < total and name in by_name:
            placed = np.broadcast_to(placed, (total, *placed.shape[1:]))
            notes.append(f"{name!r} is the same for all {total} samples")
        result[name] = placed
    lengths = {name: len(array) for name, array in result.items()}
    if set(lengths.values()) != {total}:
        given = ", ".join(f"{name} {length}" for name, length in [*lengths.items(), *_labelled(labels)])
        wrong = next((by_name[name] for name, length in lengths.items() if length != total and name in by_name), None)
        next_ = f"give one {wrong.name} of shape {_shown(wrong, total)}, or a single one for all" if wrong else ""
        raise InputError(f"the arrays in {path} differ in length", given, next_)
    return result, tuple(notes)


def _labelled(labels: int | None) -> list[tuple[str, int]]:
    return [] if labels is None else [("labels", labels)]


def _shown(spec: TensorSpec, total: int) -> str:
    sizes = (total, *(size or "?" for size in spec.sample_shape))
    return "x".join(map(str, sizes)) + " (samples first)"


def _count(array: NDArray[np.generic], spec: TensorSpec | None) -> int:
    """The number of samples in an array; 0 if it fits the input as one for all, or does not fit it."""
    if spec is None:
        return len(array) if array.ndim else 0
    if array.ndim > len(spec.shape):
        return len(array)
    axis = spec.batch_axis
    return array.shape[axis] if axis is not None and axis < array.ndim == len(spec.shape) else 0


def _lacks_axes(array: NDArray[np.generic], spec: TensorSpec | None) -> bool:
    """Has it fewer axes than the input that it is meant for? What reads the samples says so."""
    return spec is not None and spec.batch_axis is not None and 0 < array.ndim < len(spec.shape)


def _placed(array: NDArray[np.generic], spec: TensorSpec | None, total: int) -> NDArray[np.generic]:
    """The array with samples on its first axis: `total` of them, or one."""
    if spec is None:
        return np.atleast_1d(array)
    rank = len(spec.shape)
    if array.ndim == 0:
        return array.reshape([1] * max(rank, 1))
    if array.ndim != rank:
        return array
    axis = spec.batch_axis
    if axis is None:
        return array[None]
    if axis == 0 and len(array) not in (1, total):  # time, or layers, come first
        others = [i for i, size in enumerate(array.shape) if i and size == total and spec.shape[i] in (None, 1)]
        axis = others[0] if len(others) == 1 else 0
    return array if axis == 0 else np.expand_dims(np.moveaxis(array, axis, 0), axis + 1)
