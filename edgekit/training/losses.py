"""What is made small: the task's own loss, or one that is named, where it fits the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.metrics import as_same_shape
from edgekit.tasks.shared.base import Classification
from edgekit.tasks.shared.data import DataTask
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.core.samples import SampleSet
    from edgekit.core.task import Task

Loss = Callable[[Any, Any], Any]


def chosen(settings: Settings, task: Task, train: SampleSet) -> tuple[Loss, Loss]:
    """The loss to learn by and the one to judge by (without label smoothing). Raises InputError where it cannot be."""
    assert train.labels is not None
    smoothing, kind = settings.label_smoothing, settings.loss
    if smoothing and not kind:
        if not _is_classification(task):
            what = f"the loss of {task.name} is its own, and has no label smoothing"
            raise InputError(what, next="name the loss: cross-entropy, or leave label_smoothing out")
        kind = "cross-entropy"
    if not kind:
        return task.loss, task.loss
    if why := _misfit(kind, train.labels):
        raise InputError(f"the loss {kind} does not fit the labels of {train.name}", why, "leave out loss")
    if kind == "cross-entropy":
        return (lambda outputs, labels: cross_entropy(outputs, labels, smoothing)), cross_entropy
    made = mse if kind == "mse" else bce
    return made, made


def cross_entropy(outputs: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over samples (and places) of logits (N, classes, …) against class indices (N, …)."""
    from torch.nn import functional

    logits = first(outputs)
    if logits.ndim != labels.ndim + 1:
        raise _at_odds("cross-entropy", logits, labels)
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def mse(outputs: Any, labels: Tensor) -> Tensor:
    """Mean squared error."""
    from torch.nn import functional

    values, targets = as_same_shape(first(outputs), labels)
    return functional.mse_loss(values, targets.to(values.dtype))


def bce(outputs: Any, labels: Tensor) -> Tensor:
    """Mean binary cross entropy of logits with a truth each; class indices are told as one truth of many."""
    from torch.nn import functional

    logits = first(outputs)
    if not labels.is_floating_point() and logits.ndim == 2 and labels.ndim == 1 and logits.shape[1] > 1:
        labels = functional.one_hot(labels, logits.shape[1])
    values, targets = as_same_shape(logits, labels)
    return functional.binary_cross_entropy_with_logits(values, targets.to(values.dtype))


def first(outputs: Any) -> Any:
    """The first of a network's outputs."""
    from edgekit.networks.interface import named

    return next(iter(named(outputs).values()))


def _is_classification(task: Task) -> bool:
    """Is the loss the stock one of classification, whoever's task it is?"""
    if isinstance(task, DataTask):
        return bool(task.classes)
    return getattr(type(task), "loss", None) is Classification.loss


def _misfit(kind: str, labels: NDArray[Any]) -> str:
    """Why these labels are none for that loss, "" where they are."""
    whole = labels.dtype.kind in "iub"
    if kind == "cross-entropy" and not whole:
        return "they are values, not classes"
    if kind == "cross-entropy" and labels.size and int(labels.min()) < 0:
        return f"a class counts from 0, and one of them is {int(labels.min())}"
    if kind == "mse" and whole and labels.ndim == 1 and len(np.unique(labels)) > 2:
        return "they are classes, which are no quantity"
    if kind == "bce" and not whole and labels.size and not (labels.min() >= 0 and labels.max() <= 1):
        return f"they reach from {labels.min():g} to {labels.max():g}, not from 0 to 1"
    return ""


def _at_odds(kind: str, outputs: Any, labels: Any) -> InputError:
    shapes = f"the output is {list(outputs.shape)}, the labels are {list(labels.shape)}"
    return InputError(f"{kind} does not fit", shapes, "check the network's last layer")
