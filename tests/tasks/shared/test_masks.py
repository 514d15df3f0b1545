"""mIoU against torchmetrics, class maps against torch's interpolation, and what guessing reaches."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core import statistics
from edgekit.core.errors import InputError
from edgekit.sets.masks import IGNORED
from edgekit.tasks.shared.masks import class_map, mean_iou, miou, resized

torch = pytest.importorskip("torch")


def maps(seed: int, classes: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (count, 20, 30))


def test_miou_is_torchmetrics_s() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    predicted, labels = maps(0, 5), maps(1, 5).astype(np.uint8)
    labels[:, :4] = IGNORED
    expected = metrics.multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(labels).long(), 5, ignore_index=IGNORED
    )
    scores = miou(predicted, labels, 5)
    assert scores.value == pytest.approx(float(expected), abs=1e-6)
    assert scores.per_sample.shape == (6, 2, 5)
    by_class = metrics.multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(labels).long(), 5, average="none", ignore_index=IGNORED
    )
    assert scores.by_class and scores.by_class(scores.per_sample)["IoU"] == pytest.approx(by_class.numpy(), abs=1e-6)


def test_rows_can_be_resampled() -> None:
    predicted, labels = maps(0, 4), maps(1, 4)
    drawn = np.array([5, 0, 0, 3])
    rows = miou(predicted, labels, 4).per_sample
    assert mean_iou(rows[drawn]) == pytest.approx(miou(predicted[drawn], labels[drawn], 4).value)
    metric = statistics.metric(miou(predicted, labels, 4), "sha", miou(labels, labels, 4), "float")
    assert metric.drop_pp is not None and metric.drop_pp > 50 and metric.ci95[0] < metric.value < metric.ci95[1]


def test_a_class_that_no_label_has_counts_where_it_is_predicted() -> None:
    labels = np.array([[[0, 0], [1, 1]]])
    assert miou([np.array([[0, 0], [1, 1]])], labels, 9).value == 1
    assert miou([np.array([[0, 7], [1, 1]])], labels, 2).value == pytest.approx((0.5 + 1 + 0) / 3)


def test_luck_is_what_one_class_and_random_classes_reach() -> None:
    random = np.random.default_rng(0)
    shares = [0.7, 0.2, 0.1]
    labels, guessed = (random.choice(3, (20, 64, 64), p=shares) for _ in range(2))
    constant = miou(np.zeros_like(labels), labels, 3)
    assert constant.luck is not None and constant.value <= constant.luck
    assert constant.luck == pytest.approx(max(constant.value, miou(guessed, labels, 3).value), abs=0.01)
    assert "guessing reaches" in statistics.chance(constant, labels)
    assert statistics.chance(miou(labels, labels, 3), labels) == ""
    of_one = miou(np.zeros((1, 4, 4), int), np.array([[[0] * 4] * 3 + [[1] * 4]]), 2)
    assert statistics.chance(of_one, labels)


@pytest.mark.parametrize("size", [(8, 8), (33, 17), (40, 60), (5, 7)])
def test_scores_are_interpolated_as_by_torch(size: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(scores[None]), size, mode="bilinear")[0]
    np.testing.assert_array_equal(class_map(scores, size, None), expected.argmax(0).numpy())
    above = torch.nn.functional.interpolate(torch.from_numpy(scores[None, :1]), size, mode="bilinear")[0, 0] > 0.5
    np.testing.assert_array_equal(class_map(scores[:1], size, 0.5), above.numpy())


def test_classes_are_resized_to_the_nearest() -> None:
    classes = maps(0, 9, 1)[0]
    expected = torch.nn.functional.interpolate(torch.from_numpy(classes[None, None]).float(), (47, 31))[0, 0]
    np.testing.assert_array_equal(resized(classes, (47, 31)), expected.numpy())


@pytest.mark.parametrize("value", [-1, 10**6])
def test_an_output_that_holds_no_classes_is_refused(value: int) -> None:
    with pytest.raises(InputError, match="no classes"):
        miou([np.full((2, 2), value)], np.zeros((1, 2, 2), np.uint8), 2)
