"""`.npz`: one array per input name, and the labels as `label`, if any. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.arrays import array_errors
from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, suggest
from edgekit.core.files import check_unpacked
from edgekit.core.signature import InputSignature
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.per_sample import per_sample
from edgekit.sets.reading import Item, refuse_nan

LABEL = "label"


class Npz:
    """The arrays of a file, as a model with these inputs takes them.

    Raises InputError: damaged, object arrays, NaN or infinity, and lengths that differ, once the samples are read.
    """

    def __init__(self, path: Path, options: Options, model_inputs: Sequence[TensorSpec] = ()) -> None:
        self._path, self._specs = path, model_inputs
        self._arrays, self.labels = _arrays(path, options)
        self.labelled = self.labels is not None
        self.splits: frozenset[str] = frozenset()

    @cached_property
    def _placed(self) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
        labels = None if self.labels is None else len(self.labels)
        placed, notes = per_sample(self._path, self._arrays, self._specs, labels)
        refuse_nan(str(self._path), {**placed, **({LABEL: self.labels} if self.labels is not None else {})})
        return placed, notes

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        return self._placed[0]

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    def __iter__(self) -> Iterator[Item]:
        for i in range(self.count):
            values = {name: array[i, ...] for name, array in self.inputs.items()}
            yield Item(f"sample {i} of {self._path}", str(i), self._label(i), lambda values=values: values)  # type: ignore[misc]

    def decoded(self) -> Mapping[str, InputSignature]:
        return {}

    def notes(self) -> tuple[str, ...]:
        return self._placed[1]

    @property
    def classes(self) -> tuple[str, ...]:
        """The sorted values of labels that are text."""
        if self.labels is None or self.labels.dtype.kind not in "SU":
            return ()
        names = np.unique(self.labels).tolist()
        return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)

    def encoded(self) -> NDArray[Any] | None:
        """The labels; text becomes an index into its sorted values."""
        if self.labels is None or self.labels.dtype.kind not in "SU":
            return self.labels
        return np.unique(self.labels, return_inverse=True)[1].astype(np.int64)

    def _label(self, i: int) -> Raw | None:
        if self.labels is None:
            return None
        label: Any = self.labels[i].tolist()
        if self.labels.ndim > 2:
            raise InputError(
                f"the labels of {self._path} have {self.labels.ndim} axes", "a label is a value or a row of values"
            )
        if isinstance(label, bytes):
            return label.decode("utf-8", "replace")
        return tuple(map(float, label)) if isinstance(label, list) else label


def _arrays(path: Path, options: Options) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
    """Input name → array, and the labels."""
    arrays = {}
    with array_errors(path, "save it with numpy.savez"), np.load(path, allow_pickle=False) as archive:
        check_unpacked(path, archive.zip, "save it with numpy.savez, which does not compress")
        for name in archive.files:
            arrays[name] = archive[name]
            if not isinstance(arrays[name], np.ndarray):  # a member that is no .npy comes as its bytes
                raise ValueError(f"{name!r} in it is not an array")
    for name, array in arrays.items():
        if array.dtype.kind not in "biufSU":
            raise InputError(f"{path}: {name!r} is of type {array.dtype}", next="save numbers, booleans or text")
    for name in (*options.columns, *options.drop, *([options.label] if options.label else [])):
        if name not in arrays:
            raise InputError(f"{path} holds no array {name!r}", next=suggest(name, tuple(arrays)))
    label = options.label or LABEL
    labels = arrays.pop(label, None)
    arrays = {name: array for name, array in arrays.items() if name not in options.drop}
    if options.columns:
        arrays = {name: arrays[name] for name in options.columns}
    if labels is not None and labels.ndim == 0:
        raise InputError(f"{path}: {label!r} is a single value", next="give one label per sample")
    if not any(a.ndim for a in arrays.values()) or any(a.size == 0 for a in arrays.values()):
        raise InputError(f"{path} holds no samples", next="numpy.savez(path, input=array, label=labels)")
    return arrays, labels
