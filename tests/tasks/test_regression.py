"""Regression: the mean squared error against scikit-learn's, and splits."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.tasks.regression import Regression


def test_mse_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    guess, wanted = rng.normal(size=(50, 1)), rng.normal(size=(50, 1))
    assert Regression().score({"o": guess}, wanted).value == pytest.approx(metrics.mean_squared_error(wanted, guess))


def test_splits() -> None:
    pytest.importorskip("sklearn")
    task = Regression()
    found = {split: task.load(split) for split in ("train", "val", "test")}
    assert [len(data) for data in found.values()] == [282, 70, 90]
    assert found["train"].labels.std() == pytest.approx(1, abs=0.01)  # type: ignore[union-attr]
    rows = [row.tobytes() for data in found.values() for row in data.inputs["input"]]
    assert len(set(rows)) == 442
    with pytest.raises(InputError):
        task.load("tset")
