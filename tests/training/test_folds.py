"""Folds: each sample is judged once, classes are shared out evenly, and the same seed gives the same folds."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.training import folds

pytest.importorskip("torch")


def data(labels: np.ndarray) -> SampleSet:
    return SampleSet("s", {"x": np.arange(len(labels))[:, None]}, labels, "abc")


@given(st.integers(2, 5), st.lists(st.integers(0, 3), min_size=10, max_size=60), st.integers(0, 99))
def test_each_sample_is_in_one_fold(count: int, classes: list[int], seed: int) -> None:
    labels = np.array(classes)
    parts = list(folds.split(data(labels), count, seed))
    assert len(parts) == count
    judged = np.concatenate([np.ravel(part.inputs["x"][:]) for _, part in parts])
    assert sorted(judged) == list(range(len(labels)))
    for learnt, validation in parts:
        assert len(learnt) + len(validation) == len(labels)
        assert not set(np.ravel(learnt.inputs["x"][:])) & set(np.ravel(validation.inputs["x"][:]))
        assert validation.labels is not None
        for label in set(classes):
            share = classes.count(label) / count
            assert abs(np.count_nonzero(validation.labels == label) - share) <= 1
    assert len({validation.sha256 for _, validation in parts}) == count


def test_the_seed_decides() -> None:
    samples = data(np.arange(40) % 4)

    def drawn(seed: int) -> list[str]:
        return [part.sha256 for _, part in folds.split(samples, 4, seed)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_negative_seed_is_a_seed() -> None:
    assert list(folds.split(data(np.arange(40) % 4), 4, -1))


@pytest.mark.parametrize("labels", [None, np.arange(5)])
def test_what_cannot_be_split(labels: np.ndarray | None) -> None:
    few = SampleSet("few", {"x": np.zeros((5, 1))}, labels, "0")
    with pytest.raises(InputError, match="few cannot be split into 3 folds"):
        list(folds.split(few, 3, 0))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_mean_and_spread(values: list[float]) -> None:
    found = folds.summary([{"epoch": 1, "val_loss": 2 * value, "val_accuracy": value} for value in values])
    assert set(found) == {"folds", "loss", "accuracy"} and len(found["folds"]) == len(values)
    assert found["accuracy"]["mean"] == pytest.approx(statistics.fmean(values))
    assert found["accuracy"]["std"] == pytest.approx(statistics.stdev(values), abs=1e-12)
