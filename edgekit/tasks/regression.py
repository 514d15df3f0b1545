"""Regression: progression of diabetes after a year (442 people, ten values), from scikit-learn.

For your own table, name the file as the task: `edgekit run` with `task = "houses.csv?label=price"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets import reading
from edgekit.tasks.shared.images import shuffled
from edgekit.tasks.shared.scaling import Scaling

#: split → (first, last + 1) in a fixed order
SPLITS = {"train": (0, 282), "val": (282, 352), "test": (352, 442)}


class Regression(Task):
    """Standardized values (N, 10) → the standardized target (N, 1)."""

    name = "regression"
    models = ("mlp", "softmax-regression")
    licences = ("Diabetes data of Efron et al. 2004 (as in scikit-learn, BSD-3-Clause)",)

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        try:
            from sklearn.datasets import load_diabetes
        except ImportError as error:
            raise Missing.install("the regression task", "scikit-learn", "metrics") from error
        values, target = load_diabetes(return_X_y=True, scaled=False)
        order = shuffled(len(values))
        return values[order], target[order, None]

    @cached_property
    def scaling(self) -> tuple[Scaling, Scaling]:
        """The scaling of the inputs, and of the target."""
        first, last = SPLITS["train"]
        return Scaling.of(self._table[0][first:last]), Scaling.of(self._table[1][first:last])

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"shape": [self._table[0].shape[1]], "outputs": 1}

    def load(self, split: str) -> SampleSet:
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        first, last = SPLITS[split]
        values, target = (scale(part[first:last]) for scale, part in zip(self.scaling, self._table, strict=True))
        return reading.sample_set(f"{self.name}:{split}", {"input": values}, target)

    def loss(self, outputs: Any, labels: Any) -> Any:
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """Mean squared error in units of the training target's variance: predicting the mean scores 1."""
        error = (next(iter(outputs.values())).astype(np.float64) - labels) ** 2
        return Scores("MSE", "of the variance", False, error.reshape(len(error), -1).mean(axis=1))

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        self.scaling[0].write(folder)
