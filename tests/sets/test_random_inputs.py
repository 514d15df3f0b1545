"""Random inputs: their range and their sizes are those of the example or the signature, else wide and signed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifact import Artifact, Kind, Sizes, TensorSpec
from edgekit.core.signature import InputSignature, Resize
from edgekit.sets.random_inputs import RANDOM_SAMPLES, OpenSize, example_shape, random_inputs

IMAGE = TensorSpec("x", "float32", (None, 3, None, None))
CROPPED = InputSignature("image", layout="NCHW", crop=32, scale=1 / 255, mean=(0.5,), std=(0.25,))


def artifact(*inputs: TensorSpec, **details: Any) -> Artifact:
    outputs = (TensorSpec("y", "float32", (None, 2)),)
    kind, sizes = Kind("onnx"), Sizes(0, 0, 0, 0)
    return Artifact("onnx", "id", kind, "import", {}, (), "", inputs, outputs, sizes, {}, Path(), details=details)


def drawn(*inputs: TensorSpec, shapes: Any = None, **details: Any) -> Any:
    root = artifact(*inputs, **details)
    return random_inputs(root, root, shapes)


def test_unknown_floats_reach_far_below_0_and_above_1() -> None:
    data = drawn(TensorSpec("x", "float32", (None, 3, 8, 8)))
    x = data.inputs["x"]
    assert data.random and x.shape == (RANDOM_SAMPLES, 3, 8, 8) and x.dtype == np.float32
    assert x.min() < -10 and x.max() > 10
    spread = x.reshape(RANDOM_SAMPLES, -1).std(axis=1)
    assert spread.min() < 0.5 and spread.max() > 5


def test_floats_are_as_the_example() -> None:
    statistics = {"x": {"mean": 5.0, "std": 2.0, "min": 1.0, "max": 7.0}}
    x = drawn(TensorSpec("x", "float32", (None, 50)), statistics=statistics).inputs["x"]
    assert x.min() == 1 and x.max() == 7 and abs(x.mean() - 5) < 0.5


def test_an_example_of_zeros_says_nothing() -> None:
    x = drawn(TensorSpec("x", "float32", (None, 50)), statistics={"x": {"mean": 0.0, "std": 0.0, "min": 0, "max": 0}})
    assert x.inputs["x"].min() < -5


def test_floats_fill_the_span_of_the_signature() -> None:
    x = drawn(dataclasses.replace(IMAGE, signature=CROPPED)).inputs["x"]
    assert x.shape == (RANDOM_SAMPLES, 3, 32, 32)
    assert x.min() == pytest.approx(-2, abs=0.01) and x.max() == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(("dtype", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127), ("bool", 0, 1)])
def test_small_integers_take_all_their_values(dtype: str, low: int, high: int) -> None:
    x = drawn(TensorSpec("x", dtype, (None, 400))).inputs["x"]
    assert x.dtype == dtype and (x.min(), x.max()) == (low, high)


def test_a_quantized_input_takes_all_its_values_as_floats() -> None:
    x = drawn(TensorSpec("x", "int8", (1, 400), quantization=(0.5, 10))).inputs["x"]
    assert x.dtype == np.float32 and (x.min(), x.max()) == ((-128 - 10) * 0.5, (127 - 10) * 0.5)


def test_token_ids_cover_the_table() -> None:
    data = drawn(TensorSpec("ids", "int64", (None, None)), ranges={"ids": [0, 999]})
    ids = data.inputs["ids"]
    assert ids.min() >= 0 and 900 < ids.max() <= 999
    lengths = {array.shape[1] for part in (data, *data.more) for array in part.inputs.values()}
    assert len(lengths) == 2, "an open axis has two sizes"


def test_the_second_sample_set_is_one_sample_of_another_size() -> None:
    (more,) = drawn(IMAGE, shapes={"x": (1, 3, 32, 64)}).more
    assert more.inputs["x"].shape == (1, 3, 64, 128)
    (fixed,) = drawn(TensorSpec("x", "float32", (None, 4))).more
    assert fixed.inputs["x"].shape == (1, 4), "a batch of one"


def test_sizes_come_from_what_is_given_then_the_example_then_the_signature() -> None:
    signed = dataclasses.replace(IMAGE, signature=CROPPED)
    given, example = {"x": (1, 3, 16, 16)}, {"x": [1, 3, 24, 24]}
    assert drawn(signed, shapes=given, example=example).inputs["x"].shape[2:] == (16, 16)
    assert drawn(signed, example=example).inputs["x"].shape[2:] == (24, 24)
    assert drawn(signed).inputs["x"].shape[2:] == (32, 32)
    wide = InputSignature("image", layout="NHWC", resize=Resize("stretch", (20, 40)))
    spec = TensorSpec("x", "float32", (None, None, None, 3), signature=wide)
    assert drawn(spec).inputs["x"].shape[1:] == (20, 40, 3)


def test_no_size_is_made_up_for_an_image() -> None:
    with pytest.raises(OpenSize, match="the size of input x is open") as error:
        drawn(IMAGE)
    assert error.value.next == "pass --shape x=1x3x320x320"
    assert example_shape(IMAGE) == "x=1x3x320x320"


def test_a_child_has_the_sizes_of_its_root_by_position() -> None:
    root = artifact(IMAGE, example={"x": [1, 3, 24, 24]})
    child = artifact(dataclasses.replace(IMAGE, name="input_1"))
    assert random_inputs(child, root).inputs["input_1"].shape[2:] == (24, 24)
