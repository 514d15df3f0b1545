"""Metrics for labels without a task: accuracy and R², against numbers by hand and by another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core import metrics, statistics
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


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_that_of_scikit_learn(k: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(k)
    values, labels = random.normal(size=(200, 12)), random.integers(0, 12, 200)
    scores = metrics.TopK(k)({"y": values}, labels)
    assert scores.value == pytest.approx(sklearn.top_k_accuracy_score(labels, values, k=k, labels=range(12)))
    assert scores.name == f"top{k}" and np.isin(scores.per_sample, (0, 1)).all()


def test_top_k_of_equal_values_is_that_of_lower_classes() -> None:
    """As top-1: a model that says the same of all classes must not be right."""
    values, labels = np.zeros((6, 6)), np.arange(6)
    assert metrics.TopK(2)({"y": values}, labels).per_sample.tolist() == [1, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(
        metrics.TopK(1)({"y": values}, labels).per_sample, top1({"y": values}, labels).per_sample
    )


def test_guessing_the_most_frequent_classes_is_luck() -> None:
    labels = np.repeat(np.arange(10), [30, 20, 10, 5, 5, 5, 5, 5, 5, 10])
    scores = metrics.TopK(2)({"y": np.tile(np.arange(10)[::-1], (100, 1))}, labels)
    assert scores.luck == scores.value == 0.5 and "guessing reaches" in statistics.chance(scores, labels)
    assert statistics.chance(metrics.TopK(2)({"y": np.eye(10)[labels]}, labels), labels) == ""


def test_top_k_needs_more_classes() -> None:
    with pytest.raises(InputError, match="says nothing of 5 classes"):
        metrics.TopK(5)({"y": np.zeros((4, 5))}, np.zeros(4, int))
    with pytest.raises(InputError, match="says nothing of 2 classes"):
        metrics.TopK(5)({"y": np.zeros((4, 1))}, np.zeros(4, int))
    with pytest.raises(InputError, match="sample 0"):
        metrics.TopK(5)({"y": np.zeros((4, 8))}, np.full(4, 8))


@pytest.mark.parametrize("block", [7, 512])
def test_recall_is_that_of_the_nearest_neighbour(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    random = np.random.default_rng(0)
    monkeypatch.setattr(metrics.Recall, "block", block)
    labels = random.integers(0, 9, 100)
    vectors = random.normal(size=(9, 6))[labels] + random.normal(size=(100, 6))
    _, nearest = neighbors.NearestNeighbors(n_neighbors=2, metric="cosine").fit(vectors).kneighbors(vectors)
    scores = metrics.Recall()({"y": vectors.astype(np.float32)}, labels)
    np.testing.assert_array_equal(scores.per_sample, labels[nearest[:, 1]] == labels)
    assert scores.name == "recall@1" and 0.3 < scores.value < 0.95


def test_a_sample_alone_in_its_class_is_no_query_but_may_be_found() -> None:
    vectors = np.array([[1, 0], [1, 0.3], [1, 0.01], [0, 1], [0.1, 1]], np.float32)
    labels = np.array([4, 4, 7, 5, 5])
    scores = metrics.Recall()({"y": vectors}, labels)
    assert scores.per_sample.tolist() == [0, 0, 1, 1]
    assert scores.luck == pytest.approx(1 / 4)


def test_equal_vectors_find_nothing() -> None:
    """A collapsed embedding must not profit from the order of the samples."""
    labels = np.array([0, 0, 1, 1])
    scores = metrics.Recall()({"y": np.ones((4, 3), np.float32)}, labels)
    assert scores.value == 0 and statistics.chance(scores, labels)
    assert metrics.Recall()({"y": np.zeros((4, 3), np.float32)}, labels).value == 0


@pytest.mark.parametrize(
    ("shape", "labels"),
    [((4, 3), [0, 0, 0, 0]), ((4, 3), [0, 1, 2, 3]), ((4, 3, 2), [0, 0, 1, 1]), ((4,), [0, 0, 1, 1])],
)
def test_what_has_no_recall_is_refused(shape: tuple[int, ...], labels: list[int]) -> None:
    with pytest.raises(InputError, match="recall@1 cannot be computed"):
        metrics.Recall()({"y": np.ones(shape)}, np.array(labels))


def test_recall_of_vectors_with_axes_of_one() -> None:
    vectors = np.eye(4)[[0, 0, 1, 1]].reshape(4, 4, 1, 1)
    assert metrics.Recall()({"y": vectors}, np.array([0, 0, 1, 1])).value == 1
