"""How good a network is: loss and metric over the validation split."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.training.calls import as_array, call
from edgekit.training.data import Samples

if TYPE_CHECKING:
    from torch import nn

    from edgekit.core.task import Task

BATCH = 500


def evaluate(
    network: nn.Module, exam: Samples, task: Task, loss: Callable[[Any, Any], Any], judge: str = "loss"
) -> tuple[dict[str, float], float]:
    """`val_loss` and `val_METRIC`, batch by batch, in float32; and what is to be small of them."""
    import torch

    from edgekit.networks.interface import named

    network.eval()
    total, parts, truths = 0.0, [], []
    with torch.inference_mode():
        numbers = torch.arange(len(exam)).split(BATCH)  # type: ignore[no-untyped-call]
        for inputs, labels in exam.batches(numbers):
            outputs = call(network, inputs)
            total += float(loss(outputs, labels)) * len(labels)
            parts.append({name: as_array(value) for name, value in named(outputs).items()})
            truths.append(as_array(labels))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    scores = task.score(found, np.concatenate(truths))
    figures = {"val_loss": total / len(exam), f"val_{scores.name}": scores.value}
    if judge == "loss":
        return figures, figures["val_loss"]
    return figures, -scores.value if scores.higher_is_better else scores.value
