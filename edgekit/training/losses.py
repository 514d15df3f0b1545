"""Loss functions: the task's own, or a named one that fits the labels."""

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


def select_losses(settings: Settings, task: Task, train: SampleSet) -> tuple[Loss, Loss]:
    """The training loss and the validation loss (without label smoothing). Raises InputError if it does not fit."""
    assert train.labels is not None
    smoothing, kind = settings.label_smoothing, settings.loss
    if smoothing and not kind:
        if not _is_classification(task):
            what = f"{task.name} has its own loss, which has no label smoothing"
            raise InputError(what, next="choose the loss cross-entropy, or leave out label_smoothing")
        kind = "cross-entropy"
    if not kind:
        return task.loss, task.loss
    if why := _mismatch_reason(kind, train.labels):
        raise InputError(f"the loss {kind} does not fit the labels of {train.name}", why, "leave out loss")
    if kind == "cross-entropy":
        return (lambda outputs, labels: cross_entropy(outputs, labels, smoothing)), cross_entropy
    loss = mse if kind == "mse" else bce
    return loss, loss


def cross_entropy(outputs: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits (N, classes, …) against class indices (N, …)."""
    from torch.nn import functional

    from edgekit.networks.outputs import first_output

    logits = first_output(outputs)
    if logits.ndim != labels.ndim + 1:
        raise _shape_error("cross-entropy", logits, labels)
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def mse(outputs: Any, labels: Tensor) -> Tensor:
    """Mean squared error."""
    from torch.nn import functional

    from edgekit.networks.outputs import first_output

    values, targets = as_same_shape(first_output(outputs), labels)
    return functional.mse_loss(values, targets.to(values.dtype))


def bce(outputs: Any, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits against labels from 0 to 1; class indices are one-hot encoded."""
    from torch.nn import functional

    from edgekit.networks.outputs import first_output

    logits = first_output(outputs)
    if not labels.is_floating_point() and logits.ndim == 2 and labels.ndim == 1 and logits.shape[1] > 1:
        labels = functional.one_hot(labels, logits.shape[1])
    values, targets = as_same_shape(logits, labels)
    return functional.binary_cross_entropy_with_logits(values, targets.to(values.dtype))


def _is_classification(task: Task) -> bool:
    """Whether the task uses the built-in classification loss."""
    if isinstance(task, DataTask):
        return bool(task.classes)
    return type(task).loss is Classification.loss


def _mismatch_reason(kind: str, labels: NDArray[Any]) -> str:
    """Why these labels do not fit that loss, "" if they do."""
    is_integer = labels.dtype.kind in "iub"
    if kind == "cross-entropy" and not is_integer:
        return "they are continuous values, not classes"
    if kind == "cross-entropy" and labels.size and int(labels.min()) < 0:
        return f"class indices start at 0, and the lowest is {int(labels.min())}"
    if kind == "mse" and is_integer and labels.ndim == 1 and len(np.unique(labels)) > 2:
        return "they are classes, not quantities"
    if kind == "bce" and not is_integer and labels.size and not (labels.min() >= 0 and labels.max() <= 1):
        return f"they reach from {labels.min():g} to {labels.max():g}, not from 0 to 1"
    return ""


def _shape_error(kind: str, outputs: Any, labels: Any) -> InputError:
    shapes = f"the output is {list(outputs.shape)}, the labels are {list(labels.shape)}"
    return InputError(f"{kind} does not fit", shapes, "check the network's last layer")
