"""Inputs and outputs of two models: by name, by position, by shape, and in another layout."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.measure import matching
from edgekit.sets.reading import sample_set

RNG = np.random.default_rng(0)


def spec(name: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, "float32", (None, *shape))


def test_equal_names_are_matched_whatever_their_order() -> None:
    data = sample_set("s", {"a": RNG.random((5, 2)), "b": RNG.random((5, 2))}, None)
    same, notes = matching.inputs(data, (spec("a", 2), spec("b", 2)), (spec("b", 2), spec("a", 2)))
    assert not notes and same.sha256 == data.sha256
    assert np.array_equal(same.inputs["a"], data.inputs["a"])


def test_other_names_are_matched_by_position() -> None:
    data = sample_set("s", {"a": RNG.random((5, 2)), "b": RNG.random((5, 3))}, None)
    other, notes = matching.inputs(data, (spec("a", 2), spec("b", 3)), (spec("in_1", 2), spec("in_2", 3)))
    assert np.array_equal(other.inputs["in_2"], data.inputs["b"])
    assert notes == ["input a is in_1", "input b is in_2"]


def test_else_by_shape() -> None:
    data = sample_set("s", {"a": RNG.random((5, 2)), "b": RNG.random((5, 3))}, None)
    other, _ = matching.inputs(data, (spec("a", 2), spec("b", 3)), (spec("p", 3), spec("q", 2)))
    assert np.array_equal(other.inputs["p"], data.inputs["b"])


def test_an_image_in_the_other_layout_is_transposed_and_said() -> None:
    data = sample_set("s", {"x": RNG.random((5, 3, 8, 9))}, None)
    other, notes = matching.inputs(data, (spec("x", 3, 8, 9),), (spec("in", 8, 9, 3),))
    assert np.array_equal(other.inputs["in"], data.inputs["x"].transpose(0, 2, 3, 1))
    assert notes == ["input x is in, transposed to channels last"]
    back, notes = matching.inputs(other, (spec("in", 8, 9, 3),), (spec("x", 3, None, None),))
    assert np.array_equal(back.inputs["x"], data.inputs["x"]) and "channels first" in notes[0]


@pytest.mark.parametrize(
    ("of", "to", "said"),
    [
        ((spec("a", 2), spec("b", 2)), (spec("p", 2),), "different inputs: a 2, b 2 and p 2"),
        ((spec("a", 2), spec("b", 2)), (spec("p", 2), spec("q", 5)), "no order of them fits"),
    ],
)
def test_what_cannot_be_matched_is_refused(of: tuple[TensorSpec, ...], to: tuple[TensorSpec, ...], said: str) -> None:
    data = sample_set("s", {"a": RNG.random((5, 2)), "b": RNG.random((5, 2))}, None)
    with pytest.raises(InputError, match=said):
        matching.inputs(data, of, to)


def test_outputs_get_the_names_and_the_order_of_the_reference() -> None:
    boxes, scores = RNG.random((5, 7, 4)), RNG.random((5, 7))
    aligned, notes = matching.outputs({"boxes": boxes, "scores": scores}, {"o1": scores, "o2": boxes})
    assert list(aligned) == ["boxes", "scores"] and np.array_equal(aligned["boxes"], boxes)
    assert notes == ["output o2 is boxes", "output o1 is scores"]


def test_outputs_that_do_not_match_stay_as_they_are() -> None:
    aligned, notes = matching.outputs({"y": np.ones((5, 3))}, {"y": np.ones((5, 4))})
    assert aligned["y"].shape == (5, 4) and not notes
