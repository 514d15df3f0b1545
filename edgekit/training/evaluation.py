"""Loss and metric of a network over the validation split."""

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
    network: nn.Module,
    validation: Samples,
    task: Task,
    loss: Callable[[Any, Any], Any],
    monitor: str = "loss",
    batch: int = BATCH,
) -> tuple[dict[str, float], float]:
    """`val_loss` and `val_METRIC` in float32, and the value to minimise: the loss, or the negated metric."""
    import torch

    from edgekit.networks.outputs import left_out, named_outputs

    network.eval()
    total, outputs_by_batch, labels_by_batch = 0.0, [], []
    with torch.inference_mode():
        indices = torch.arange(len(validation)).split(batch)  # type: ignore[no-untyped-call]
        for inputs, labels in validation.batches(indices):
            outputs = call(network, inputs)
            total += float(loss(outputs, labels)) * len(labels)
            by_name = named_outputs(outputs, left_out(outputs)[0])
            outputs_by_batch.append({name: as_array(value) for name, value in by_name.items()})
            labels_by_batch.append(as_array(labels))
    outputs = {name: np.concatenate([part[name] for part in outputs_by_batch]) for name in outputs_by_batch[0]}
    scores = task.score(outputs, np.concatenate(labels_by_batch))
    metrics = {"val_loss": total / len(validation), f"val_{scores.name}": scores.value}
    if monitor == "loss":
        return metrics, metrics["val_loss"]
    return metrics, -scores.value if scores.higher_is_better else scores.value
