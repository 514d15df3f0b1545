"""Metrics for models without a task, chosen by the type of the labels, or by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.core.errors import InputError
from edgekit.core.statistics import Array
from edgekit.core.task import Scorer, Scores


def scorer(labels: Array) -> Scorer:
    """The metric for labels without a task: integers are classes, floats are regression values."""
    return r_squared if labels.dtype.kind == "f" else top1


def top1(outputs: Mapping[str, Array], labels: Array) -> Scores:
    """Top-1 accuracy of the first output (samples, classes): 1 where the largest value is the label's, else 0.

    A single score per sample is that of class 1 of two: see `_of_two`. Raises InputError, naming the sample, for a
    label that is not a class.
    """
    values = next(iter(outputs.values()))
    if labels.ndim == 1 and values.size == len(labels) == len(values) and set(np.unique(labels)) <= {0, 1}:
        values = _of_two(np.asarray(values).reshape(len(labels)))
    if values.ndim != 2 or labels.ndim != 1:
        shapes = f"the output is {list(values.shape)}, the labels are {list(labels.shape)}"
        hint = "write the labels of a regression with a decimal point"
        raise InputError("the accuracy cannot be computed", shapes, hint)
    invalid = np.flatnonzero((labels < 0) | (labels >= values.shape[1]))
    if len(invalid):
        what = f"the label of sample {invalid[0]} is {labels[invalid[0]]}"
        why = f"the model has {values.shape[1]} classes, numbered from 0"
        raise InputError(what, why, "check the labels")
    return Scores("accuracy", "fraction", True, (values.argmax(axis=1) == labels).astype(np.float64))


class TopK:
    """Top-k accuracy of the first output (samples, classes): 1 where the label is among the k largest values, else 0.

    Of equal values those of lower classes come first, as in `top1`, which is k = 1. `luck`: what the k most frequent
    classes reach. Raises InputError as `top1`, and if there are no more than k classes.
    """

    def __init__(self, k: int) -> None:
        self.k, self.name = k, f"top{k}"

    def __call__(self, outputs: Mapping[str, Array], labels: Array) -> Scores:
        first = top1(outputs, labels)
        values = next(iter(outputs.values()))
        if values.ndim != 2 or values.shape[1] <= self.k:
            what = f"{self.name} says nothing of {max(2, values.shape[-1])} classes"
            raise InputError(what, "every prediction would be right", "leave out --metric")
        own = values[np.arange(len(labels)), labels][:, None]
        lower = np.arange(values.shape[1]) < labels[:, None]
        ranks = (~(values <= own)).sum(axis=1) + ((values == own) & lower).sum(axis=1)  # NaN is never the right one
        counts = np.sort(np.bincount(labels))[::-1]
        luck = max(float(counts[: self.k].sum()) / len(labels), self.k / values.shape[1])
        return replace(first, name=self.name, per_sample=(ranks < self.k).astype(np.float64), luck=luck)


class Recall:
    """Recall@1 of retrieval by the first output, an embedding (samples, values).

    Each sample is a query; the others are sorted by cosine similarity. It is 1 where the nearest is of the query's
    class, else 0: also if one of another class is as near. Samples alone in their class are no queries, and remain
    among the others. `luck`: what a random other sample reaches. Raises InputError if no class has two samples, or all
    are of one.
    """

    name = "recall@1"
    #: rows of the similarities that are computed at once
    block = 512

    def __call__(self, outputs: Mapping[str, Array], labels: Array) -> Scores:
        values = next(iter(outputs.values()))
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not _is_vector(values):
            shapes = f"the output is {list(values.shape)}, the labels are {labels.dtype}{list(labels.shape)}"
            raise InputError(f"{self.name} cannot be computed", shapes, "it takes one vector and one class per sample")
        _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        queries = np.flatnonzero(counts[index] > 1)
        if len(counts) < 2 or not len(queries):
            why = "all samples are of one class" if len(counts) < 2 else "no class has two samples"
            raise InputError(f"{self.name} cannot be computed", why, "use other samples")
        vectors = np.asarray(values, np.float32).reshape(len(labels), -1)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        blocks = np.split(queries, range(self.block, len(queries), self.block))
        hits = [self._hits(vectors, labels, block) for block in blocks]
        luck = float((counts[index[queries]] - 1).mean()) / (len(labels) - 1)
        return Scores(self.name, "fraction", True, np.concatenate(hits), luck=luck)

    def notes(self, labels: Array) -> tuple[str, ...]:
        """A sentence about the samples that are no queries."""
        alone = int((np.unique(labels, return_counts=True)[1] == 1).sum())
        classes = "1 class has" if alone == 1 else f"{alone} classes have"
        return (f"{classes} one sample, which {self.name} does not look up",) if alone else ()

    @staticmethod
    def _hits(vectors: Array, labels: Array, queries: Array) -> Array:
        similarity = vectors[queries] @ vectors.T
        similarity[np.arange(len(queries)), queries] = -np.inf
        same = labels[queries, None] == labels[None]
        nearest = np.where(same, similarity, -np.inf).max(axis=1)
        return np.asarray(nearest > np.where(same, -np.inf, similarity).max(axis=1), np.float64)


def _is_vector(values: Array) -> bool:
    """Is each sample a vector, perhaps with axes of size 1?"""
    return values.ndim > 1 and math.prod(values.shape[1:]) == max(values.shape[1:])


def _of_two(scores: Array) -> Array:
    """The scores (samples,) of class 1 as those of classes 0 and 1 (samples, 2).

    Probabilities, if none is below 0 or above 1 by more than rounding: class 1 is above 0.5; else logits: above 0.
    """
    is_probability = scores.size > 0 and scores.min() >= -0.01 and scores.max() <= 1.01
    return np.stack([np.full_like(scores, 0.5 if is_probability else 0, np.float64), scores], axis=1)


def r_squared(outputs: Mapping[str, Array], labels: Array) -> Scores:
    """The coefficient of determination of the first output, R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)².

    A sample's value is 1 - (y - ŷ)² / var(y), whose mean is R²; with k values per sample, their mean. Raises
    InputError if shapes differ or all labels are equal.
    """
    values, targets = as_same_shape(next(iter(outputs.values())), labels)
    y = np.asarray(targets, np.float64).reshape(len(targets), -1)
    variance = y.var(axis=0)
    if not variance.all():
        raise InputError("R² cannot be computed", "all labels are equal", "use samples whose labels differ")
    error = np.asarray(values, np.float64).reshape(len(y), -1) - y
    return Scores("R²", "fraction", True, (1 - error**2 / variance).mean(axis=1))


def as_same_shape(values: Any, labels: Any) -> tuple[Any, Any]:
    """Both arrays or tensors in the same shape: axes of size 1 after the first are dropped.

    Without this, (N, 1) and (N,) would broadcast to (N, N). Raises InputError, showing both shapes.
    """
    flat = [x.reshape(len(x)) if x.ndim > 1 and math.prod(x.shape[1:]) == 1 else x for x in (values, labels)]
    if flat[0].shape != flat[1].shape:
        shapes = f"the output is {list(values.shape)}, the labels are {list(labels.shape)}"
        raise InputError("outputs and labels differ in shape", shapes, "check the network's last layer")
    return flat[0], flat[1]


def perplexity(outputs: Mapping[str, Array], labels: Array) -> Scores:
    """exp of the mean negative log-likelihood of a token, of (N, T, words) logits in the first output.

    https://doi.org/10.1121/1.2016299. Labels (N, T) are the tokens; a row holds a sample's sum, in nats, and its T.
    """
    logits = next(iter(outputs.values()))
    if logits.shape[:-1] != labels.shape:
        what = f"the labels are {list(labels.shape[1:])} per sample, and the outputs {list(logits.shape[1:])}"
        raise InputError(what, "perplexity needs the logits of a token for each label", "check the set and the model")
    pairs = zip(logits, labels, strict=True)
    rows = np.array([[_negative_log_likelihood(row, label), len(label)] for row, label in pairs])
    return Scores("perplexity", "", False, rows, reduced_perplexity)


def _negative_log_likelihood(logits: Array, labels: Array) -> float:
    """Of (T,) tokens by their (T, words) logits, summed, in nats."""
    values = np.asarray(logits, np.float64)
    values = values - values.max(axis=-1, keepdims=True)
    own = np.take_along_axis(values, labels[:, None], axis=-1)[:, 0]
    return float(np.sum(np.log(np.exp(values).sum(axis=-1)) - own))


def reduced_perplexity(rows: Array) -> float:
    """Of rows of summed negative log-likelihoods and numbers of tokens."""
    total, count = rows.sum(axis=0)
    return float(np.exp(min(total / count, 700.0)))
