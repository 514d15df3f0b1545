"""Metrics that are chosen from the labels, for models without a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.core.errors import InputError
from edgekit.core.statistics import Array
from edgekit.core.task import Scorer, Scores


def scorer(labels: Array) -> Scorer:
    """The score for labels without a task: whole numbers are classes, others values."""
    return r_squared if labels.dtype.kind == "f" else top1


def top1(outputs: Mapping[str, Array], labels: Array) -> Scores:
    """Top-1 accuracy of the first output (samples, classes): 1 where the largest value is the label's, else 0.

    Raises InputError, naming the sample, for a label that is no class.
    """
    values = next(iter(outputs.values()))
    if values.ndim != 2 or labels.ndim != 1:
        shapes = f"the output is {list(values.shape)}, the labels are {list(labels.shape)}"
        raise InputError("classes cannot be scored", shapes, "labels that are values are written with a decimal point")
    wrong = np.flatnonzero((labels < 0) | (labels >= values.shape[1]))
    if len(wrong):
        what = f"the label of sample {wrong[0]} is {labels[wrong[0]]}"
        raise InputError(what, f"the model tells {values.shape[1]} classes apart, from 0 on", "check the labels")
    return Scores("accuracy", "fraction", True, (values.argmax(axis=1) == labels).astype(np.float64))


def r_squared(outputs: Mapping[str, Array], labels: Array) -> Scores:
    """The coefficient of determination of the first output, R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)².

    A sample's share is 1 - (y - ŷ)² / var(y), which has R² as its mean; with k values per sample, their mean. Raises
    InputError where shapes differ, or all labels are the same.
    """
    values, wanted = alike(next(iter(outputs.values())), labels)
    y = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
    variance = y.var(axis=0)
    if not variance.all():
        raise InputError("R² cannot be told", "every label is the same", "give samples whose labels differ")
    error = np.asarray(values, np.float64).reshape(len(y), -1) - y
    return Scores("R²", "fraction", True, (1 - error**2 / variance).mean(axis=1))


def alike(values: Any, labels: Any) -> tuple[Any, Any]:
    """Both arrays or tensors in one shape: an axis of one value per sample does not count.

    (N, 1) and (N,) would broadcast to (N, N). Raises InputError, both shapes shown.
    """
    flat = [x.reshape(len(x)) if x.ndim > 1 and math.prod(x.shape[1:]) == 1 else x for x in (values, labels)]
    if flat[0].shape != flat[1].shape:
        shapes = f"the output is {list(values.shape)}, the labels are {list(labels.shape)}"
        raise InputError("outputs and labels differ in shape", shapes, "check the network's last layer")
    return flat[0], flat[1]
