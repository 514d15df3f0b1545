"""A metric is a mean, or what its `reduce` says."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.task import Scores, Task


def test_a_mean() -> None:
    assert Scores("accuracy", "fraction", True, np.array([1.0, 0.0, 1.0, 1.0])).value == 0.75


def test_a_metric_that_is_no_mean() -> None:
    rows = np.array([[3.0, 4.0], [1.0, 4.0]])
    scores = Scores("IoU", "fraction", True, rows, lambda rows: rows[:, 0].sum() / rows[:, 1].sum())
    assert scores.value == 0.5 and type(scores.value) is float


def test_a_task_of_ones_own_offers_nothing_by_itself() -> None:
    task = Task()
    assert task.arguments("cnn") == {} and task.augment is None and task.Options is None
    for call in (lambda: task.load("train"), lambda: task.loss(None, None), lambda: task.score({}, np.zeros(1))):
        with pytest.raises(NotImplementedError):
            call()
