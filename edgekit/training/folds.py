"""K-fold cross-validation: how far a metric depends on which samples were learnt from."""

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
    """To learn from and to judge by, for each fold; every sample is in one fold, and classes are shared out evenly.

    Raises InputError where there are too few samples, or they are streamed.
    """
    if len(data) < 2 * folds or data.labels is None:
        what = f"{data.name} cannot be split into {folds} folds"
        raise InputError(what, f"it has {len(data)} samples", "take fewer folds")
    if any(hasattr(array, "source") for array in data.inputs.values()):
        raise InputError("a streamed set has no folds", next="leave out stream, or folds")
    order = np.random.default_rng([seed, folds]).permutation(len(data))
    if data.labels.ndim == 1 and data.labels.dtype.kind in "iub":
        order = order[np.argsort(data.labels[order], kind="stable")]
    for fold in range(folds):
        judged = np.sort(order[fold::folds])
        learnt = np.setdiff1d(np.arange(len(data)), judged)
        yield _subset(data, learnt, f"fold {fold + 1}, learnt"), _subset(data, judged, f"fold {fold + 1}, judged")


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the folds of the best epochs' metric and loss."""
    names = [name for name in found[0] if name.startswith("val_")]
    result: dict[str, Any] = {"folds": [dict(entry) for entry in found]}
    for name in names:
        values = [float(entry[name]) for entry in found]
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        result[name.removeprefix("val_")] = {"mean": mean, "std": spread}
    return result


def _subset(data: SampleSet, numbers: NDArray[np.int64], name: str) -> SampleSet:
    assert data.labels is not None
    inputs: dict[str, Any] = {key: Rows(array, numbers) for key, array in data.inputs.items()}
    sha256 = hashlib.sha256(data.sha256.encode() + numbers.tobytes()).hexdigest()
    return replace(data, name=f"{data.name}, {name}", inputs=inputs, labels=data.labels[numbers], sha256=sha256)
