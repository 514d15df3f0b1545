"""What a task of one's own can inherit: a loss and a score. It adds `load`, and whatever differs.

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.core.task import Scores


class _Base:
    name: str = ""
    models: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {}


class Classification(_Base):
    """Labels (N,) are class indices, a network's first output (N, classes) logits."""

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean cross entropy. Raises InputError for a label that no output stands for."""
        from torch.nn.functional import cross_entropy

        if outputs.ndim != 2:
            what = f"the network gives {list(outputs.shape)}"
            raise InputError(what, "a class needs one value per sample and class", "check its last layer")
        highest = int(labels.max())
        if highest >= outputs.shape[1]:
            what = f"there are {highest + 1} classes, the network tells {outputs.shape[1]} apart"
            raise InputError(what, next="check its last layer, or the labels")
        return cross_entropy(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        from edgekit.core.metrics import top1

        return top1(outputs, labels)


class Regression(_Base):
    """Labels (N,) or (N, k) are values, and so is a network's first output."""

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean squared error. Raises InputError where outputs and labels are of different shapes."""
        from torch.nn.functional import mse_loss

        from edgekit.core.metrics import as_same_shape

        values, targets = as_same_shape(outputs, labels)
        return mse_loss(values, targets.to(values.dtype))

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        from edgekit.core.metrics import r_squared

        return r_squared(outputs, labels)
