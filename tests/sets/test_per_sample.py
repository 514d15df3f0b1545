"""Arrays as users hold them become one array per input with the sample first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.sets.per_sample import per_sample

X = TensorSpec("x", "float32", (None, 9))
STATE = TensorSpec("h", "float32", (2, None, 4), batch_axis=1)
RATE = TensorSpec("sr", "int64", (), batch_axis=None)
SPECS = (X, STATE, RATE)
FILE = Path("s.npz")


def x(count: int) -> np.ndarray:
    return np.arange(count * 9, dtype=np.float32).reshape(count, 9)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_form_becomes_the_same_samples(count: int) -> None:
    state = np.random.default_rng(0).normal(size=(2, count, 4)).astype(np.float32)
    whole = np.stack([state[:, i : i + 1] for i in range(count)])
    for given in (state, whole):
        for rate in (np.array(16000), np.full(count, 16000)):
            arrays, _ = per_sample(FILE, {"x": x(count), "h": given, "sr": rate}, SPECS, None)
            np.testing.assert_array_equal(arrays["h"], whole)
            np.testing.assert_array_equal(arrays["sr"], [16000] * count)
            np.testing.assert_array_equal(arrays["x"], x(count))


def test_what_is_given_once_is_repeated_and_said() -> None:
    arrays, notes = per_sample(FILE, {"x": x(3), "h": np.ones((2, 1, 4), "f"), "sr": np.array(8)}, SPECS, None)
    assert arrays["h"].shape == (3, 2, 1, 4)
    assert notes == ("'h' is the same for all 3 samples", "'sr' is the same for all 3 samples")


def test_arrays_with_the_batch_first_are_left_alone() -> None:
    given = x(3)
    arrays, notes = per_sample(FILE, {"x": given}, (X,), 3)
    assert arrays["x"] is given and not notes


def test_the_number_of_labels_decides_where_the_time_comes_first() -> None:
    spec = TensorSpec("x", "float32", (None, None, 9))
    arrays, _ = per_sample(FILE, {"x": np.zeros((7, 3, 9), np.float32)}, (spec,), 3)
    assert arrays["x"].shape == (3, 7, 1, 9)


def test_a_mask_of_a_fixed_size_is_the_same_for_all() -> None:
    mask = TensorSpec("mask", "float32", (7, 7), batch_axis=None)
    arrays, notes = per_sample(FILE, {"x": x(3), "mask": np.eye(7)}, (X, mask), None)
    assert arrays["mask"].shape == (3, 7, 7) and len(notes) == 1


def test_a_single_array_is_the_only_input_by_any_name() -> None:
    arrays, _ = per_sample(FILE, {"input": np.zeros((2, 5, 4), np.float32)}, (STATE,), None)
    assert arrays["input"].shape == (5, 2, 1, 4)


@pytest.mark.parametrize(
    ("arrays", "labels", "next"),
    [
        (
            {"x": x(3), "h": np.zeros((2, 5, 4))},
            None,
            "give one x of shape 5x9 (samples first), or a single one for all",
        ),
        (
            {"x": x(3), "h": np.zeros((2, 2, 4))},
            3,
            "give one h of shape 3x2x1x4 (samples first), or a single one for all",
        ),
        ({"x": x(3)}, 4, "give one x of shape 4x9 (samples first), or a single one for all"),
    ],
)
def test_numbers_that_differ_are_an_error(arrays: dict[str, np.ndarray], labels: int | None, next: str) -> None:
    with pytest.raises(InputError, match="differ in length") as error:
        per_sample(FILE, arrays, (X, STATE), labels)
    assert error.value.next == next


def test_without_a_model_every_array_has_the_sample_first() -> None:
    with pytest.raises(InputError, match="differ in length"):
        per_sample(FILE, {"x": x(3), "sr": np.array(1)}, (), None)
    with pytest.raises(InputError, match="differ in length"):
        per_sample(FILE, {"x": x(3), "once": x(1)}, (), None)
