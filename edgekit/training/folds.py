"""K-fold cross-validation: how much a metric depends on the choice of training samples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.training.data import Rows


def split(data: SampleSet, folds: int, seed: int) -> Iterator[tuple[SampleSet, SampleSet]]:
    """Training and validation part of each fold. Every sample is in one fold; folds are stratified by class.

    Raises InputError if there are too few samples, or if the set is streamed.
    """
    if len(data) < 2 * folds or data.labels is None:
        what = f"{data.name} cannot be split into {folds} folds"
        raise InputError(what, f"it has {len(data)} samples", "use fewer folds")
    if any(hasattr(array, "source") for array in data.inputs.values()):
        raise InputError("a streamed set cannot be split into folds", next="leave out stream, or folds")
    order = np.random.default_rng([seed % 2**64, folds]).permutation(len(data))
    if data.labels.ndim == 1 and data.labels.dtype.kind in "iub":
        order = order[np.argsort(data.labels[order], kind="stable")]
    for fold in range(folds):
        validation = np.sort(order[fold::folds])
        training = np.setdiff1d(np.arange(len(data)), validation)
        yield (
            _subset(data, training, f"fold {fold + 1}, training"),
            _subset(data, validation, f"fold {fold + 1}, validation"),
        )


def summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the folds of the best epochs' metric and loss."""
    names = [name for name in entries[0] if name.startswith("val_")]
    result: dict[str, Any] = {"folds": [dict(entry) for entry in entries]}
    for name in names:
        values = [float(entry[name]) for entry in entries]
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        result[name.removeprefix("val_")] = {"mean": mean, "std": std}
    return result


def _subset(data: SampleSet, indices: NDArray[np.int64], name: str) -> SampleSet:
    assert data.labels is not None
    inputs: dict[str, Any] = {key: Rows(array, indices) for key, array in data.inputs.items()}
    sha256 = hashlib.sha256(data.sha256.encode() + indices.tobytes()).hexdigest()
    return replace(data, name=f"{data.name}, {name}", inputs=inputs, labels=data.labels[indices], sha256=sha256)
