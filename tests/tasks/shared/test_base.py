"""The losses and scores that a task of one's own inherits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core import metrics
from edgekit.core.errors import InputError
from edgekit.tasks.shared.base import Classification, Regression

number = st.floats(-100, 100)


@given(st.lists(st.tuples(number, number), min_size=2, max_size=30))
def test_r_squared_is_the_mean_of_its_shares(pairs: list[tuple[float, float]]) -> None:
    y, guess = np.array(pairs).T
    if y.var() < 1e-6:
        return
    found = metrics.r_squared({"output": guess[:, None]}, y)
    expected = 1 - ((y - guess) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert found.per_sample.shape == y.shape
    assert found.per_sample.mean() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (found.name, found.unit, found.higher_is_better) == ("R²", "fraction", True)


def test_r_squared_of_several_values() -> None:
    y = np.random.default_rng(0).random((50, 3))
    guess = y + np.random.default_rng(1).normal(0, 0.1, (50, 3))
    each = [metrics.r_squared({"o": guess[:, i]}, y[:, i]).per_sample.mean() for i in range(3)]
    assert metrics.r_squared({"o": guess}, y).per_sample.mean() == pytest.approx(np.mean(each))
    assert metrics.r_squared({"o": y}, y).per_sample.tolist() == [1.0] * 50
    with pytest.raises(InputError, match="all labels are equal"):
        metrics.r_squared({"o": np.ones(4)}, np.ones(4))


def test_one_column_never_becomes_a_square() -> None:
    torch = pytest.importorskip("torch")
    y = torch.tensor([1.0, 2.0, 3.0])
    assert Regression().loss(y[:, None], y) == 0
    assert Regression().loss(y, y[:, None]) == 0
    assert Regression().loss(y[:, None], y.double()).dtype == torch.float32
    with pytest.raises(InputError, match="differ in shape") as error:
        Regression().loss(torch.zeros(3, 2), y)
    assert "[3, 2]" in error.value.why and "[3]" in error.value.why
    with pytest.raises(InputError, match="differ in shape"):
        metrics.r_squared({"o": np.zeros((3, 2))}, np.arange(3.0))


def test_a_label_that_is_no_class_is_named() -> None:
    torch = pytest.importorskip("torch")
    outputs = np.eye(3)[[0, 1, 2, 0]]
    assert metrics.top1({"o": outputs}, np.array([0, 1, 2, 2])).per_sample.tolist() == [1, 1, 1, 0]
    for label in (3, -1):
        with pytest.raises(InputError, match=f"label of sample 2 is {label}"):
            metrics.top1({"o": outputs}, np.array([0, 1, label, 2]))
    with pytest.raises(InputError, match="4 classes, the network has 3 outputs"):
        Classification().loss(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(InputError, match="the network's output has shape"):
        Classification().loss(torch.zeros(2), torch.tensor([0, 1]))


def test_labels_without_a_task_have_a_score() -> None:
    assert metrics.scorer(np.zeros(3, np.int64)) is metrics.top1
    assert metrics.scorer(np.zeros(3, np.float32)) is metrics.r_squared
