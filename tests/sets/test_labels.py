"""Labels: text and whole numbers are classes, other numbers are values; what could be either is asked for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.sets.labels import MAX_CLASSES, Labels, Raw


def seen(raw: list[Any], declared: Literal["", "classes", "values"] = "") -> Labels:
    labels = Labels("data.csv", declared)
    for index, label in enumerate(raw):
        labels.add(f"row {index}", label)
    return labels


@given(st.lists(st.text(), min_size=1))
def test_text_is_an_index_among_the_sorted_names(raw: list[Raw]) -> None:
    labels = seen(raw)
    array = labels.array(raw)
    assert array.dtype == np.int64 and list(labels.classes) == sorted(set(raw), key=str)
    assert [labels.classes[index] for index in array] == raw


@given(st.lists(st.integers(0, 999), min_size=1))
def test_whole_numbers_are_classes_as_they_stand(raw: list[Raw]) -> None:
    labels = seen(raw)
    assert labels.array(raw).tolist() == raw
    assert len(labels.classes) == max(map(int, raw)) + 1  # type: ignore[arg-type]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_other_numbers_are_values(raw: list[Raw]) -> None:
    labels = seen(raw)
    assert not labels.are_classes and labels.classes == ()
    assert labels.array(raw).dtype == np.float32 and labels.array(raw).tolist() == raw


def test_whole_numbers_among_others_are_values() -> None:
    assert not seen([1, 2.5]).are_classes
    assert not seen([0, 1, 2], "values").are_classes


def test_several_values_per_sample() -> None:
    raw: list[Raw] = [(1.0, 2.0), (3.0, 4.0)]
    assert seen(raw).array(raw).shape == (2, 2)


@pytest.mark.parametrize(
    ("raw", "meant", "words"),
    [
        (["a", 1], "", "several types"),
        ([(1.0,), (1.0, 2.0)], "", "several types"),
        (["a"], "values", "needs numbers"),
        ([1.5], "classes", "integer or text"),
        ([0, -3], "", "row 1 is -3"),
        ([0, 5000], "", "may be classes or values"),
        ([0, MAX_CLASSES], "classes", "may be classes or values"),
    ],
)
def test_what_cannot_be_decided(raw: list[Any], meant: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        _ = seen(raw, meant).are_classes
    assert words in str(caught.value)


def test_many_classes_where_they_are_meant() -> None:
    assert seen([0, 5000], "classes").are_classes
    assert seen(list(range(1200))).are_classes, "as many samples as classes"
