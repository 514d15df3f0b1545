"""Tasks: data, networks, a loss and a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.core.samples import SampleSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Task(Protocol):
    """Data splits, networks by name, a loss and a metric."""

    name: str
    licences: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The networks (files of `edgekit/models/`, or `net.py:Net`) of this task, the default first."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index; empty for regression."""
        ...

    def load(self, split: str) -> SampleSet: ...

    def arguments(self, model: str) -> Mapping[str, Any]:
        """Keyword arguments, plain JSON values, that build `model` for this task."""
        ...

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean loss of a batch (torch tensors in, torch scalar out)."""
        ...

    def score(self, outputs: Mapping[str, NDArray[np.floating]], labels: NDArray[Any]) -> Scores: ...


@dataclass(frozen=True)
class Scores:
    """A metric over samples: the mean of one value per sample, or `reduce` applied to one row per sample.

    A metric that is not a mean (mIoU, mAP, AUC, RMSE, F1, …) has `per_sample` of shape (samples, statistics) and a
    `reduce` that accepts any selection of its rows, with repetitions: its intervals are bootstrapped.
    """

    name: str
    unit: str
    higher_is_better: bool
    per_sample: NDArray[np.floating]
    reduce: Callable[[NDArray[Any]], float] | None = None

    @property
    def value(self) -> float:
        return float(self.per_sample.mean()) if self.reduce is None else float(self.reduce(self.per_sample))


class Scorer(Protocol):
    """Outputs by name and labels → one value per sample."""

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores: ...
