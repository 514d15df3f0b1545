"""Metrics for labels without a task: accuracy and R², against numbers by hand and by another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core import metrics
from edgekit.core.errors import InputError
from edgekit.core.metrics import as_same_shape, r_squared, scorer, top1


def outputs(values: Any) -> dict[str, Any]:
    return {"y": np.asarray(values, np.float32)}


def test_the_labels_decide() -> None:
    assert scorer(np.array([0, 1])) is top1
    assert scorer(np.array([0.5, 1.0])) is r_squared


def test_accuracy_by_hand() -> None:
    scores = metrics.top1(outputs([[1, 2], [3, 0], [0, 5]]), np.array([1, 1, 1]))
    assert scores.per_sample.tolist() == [1, 0, 1] and scores.higher_is_better
    assert scores.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_named(label: int) -> None:
    with pytest.raises(InputError, match="sample 1") as caught:
        top1(outputs([[1, 2], [3, 0]]), np.array([0, label]))
    assert "2 classes" in caught.value.why


def test_several_labels_per_sample_are_no_classes() -> None:
    with pytest.raises(InputError):
        top1(outputs([[1, 2]]), np.array([[0, 1]]))


@given(st.integers(2, 20), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_r_squared_is_one_minus_the_share_of_the_error(count: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, values = random.normal(size=(count, width)), random.normal(size=(count, width))
    scores = r_squared({"y": values}, labels)
    residual = ((labels - values) ** 2).sum(axis=0)
    total = ((labels - labels.mean(axis=0)) ** 2).sum(axis=0)
    assert scores.value == pytest.approx(np.mean(1 - residual / total))


def test_perfect_and_constant_predictions() -> None:
    labels = np.array([1.0, 2.0, 3.0])
    assert r_squared({"y": labels}, labels).value == 1
    assert r_squared({"y": np.full(3, 2.0)}, labels).value == 0
    with pytest.raises(InputError, match="R²"):
        r_squared({"y": labels}, np.ones(3))


def test_one_value_per_sample_does_not_broadcast() -> None:
    values, labels = as_same_shape(np.zeros((5, 1)), np.zeros(5))
    assert values.shape == labels.shape == (5,)
    with pytest.raises(InputError, match="shape") as caught:
        as_same_shape(np.zeros((5, 2)), np.zeros(5))
    assert "[5, 2]" in caught.value.why and "[5]" in caught.value.why


@pytest.mark.parametrize(("scores", "right"), [([0.1, 0.6, 0.4], [1, 1, 0]), ([-3.0, 0.2, -0.1], [1, 1, 0])])
def test_a_single_score_is_that_of_class_1(scores: list[float], right: list[int]) -> None:
    labels = np.array([0, 1, 1])
    for shape in ((3,), (3, 1)):
        assert top1({"y": np.array(scores).reshape(shape)}, labels).per_sample.tolist() == right
    with pytest.raises(InputError, match="cannot be computed") as caught:
        top1({"y": np.array(scores)}, labels + 2)
    assert "decimal point" in caught.value.next
