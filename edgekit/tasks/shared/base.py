"""Base classes for a user's own task: a loss and a score. The task adds `load`, and overrides what differs.

class Houses(Regression):
    models = ("net.py:Net",)

    def load(self, split: str) -> SampleSet:
        ...
        return sample_set(f"{self.name}:{split}", {"input": values}, prices)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError
from edgekit.core.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.core.task import Scores


class Classification(Task):
    """Labels (N,) are class indices; a network's first output (N, classes) holds logits."""

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean cross-entropy. Raises InputError for a label that has no output."""
        from torch.nn.functional import cross_entropy

        from edgekit.networks.outputs import first_output

        outputs = first_output(outputs)
        if outputs.ndim != 2:
            what = f"the network's output has shape {list(outputs.shape)}"
            raise InputError(what, "classification needs (samples, classes)", "check the network's last layer")
        highest = int(labels.max())
        if highest >= outputs.shape[1]:
            what = f"the labels have {highest + 1} classes, the network has {outputs.shape[1]} outputs"
            raise InputError(what, next="check the network's last layer, or the labels")
        return cross_entropy(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        from edgekit.core.metrics import top1

        return top1(outputs, labels)


class Regression(Task):
    """Labels (N,) or (N, k) and a network's first output are continuous values."""

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean squared error. Raises InputError if outputs and labels differ in shape."""
        from torch.nn.functional import mse_loss

        from edgekit.core.metrics import as_same_shape
        from edgekit.networks.outputs import first_output

        values, targets = as_same_shape(first_output(outputs), labels)
        return mse_loss(values, targets.to(values.dtype))

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        from edgekit.core.metrics import r_squared

        return r_squared(outputs, labels)
