"""Signatures that fit a model, and those that contradict it: every contradiction, in one error."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature
from edgekit.core.signature_check import layout_of, signed

RGB = TensorSpec("x", "float32", (None, 3, 224, 224))
GRAY = TensorSpec("x", "float32", (1, 28, 28, 1))
SCORES = TensorSpec("y", "float32", (None, 1000))
NAMES = tuple(map(str, range(1000)))


def test_what_the_shape_decides_is_filled_in() -> None:
    image = InputSignature("image", crop=224, mean=(0.1, 0.2, 0.3))
    (x,), (y,) = signed([RGB], [SCORES], Signature((image,), (OutputSignature("logits", classes=NAMES),)))
    assert isinstance(x.signature, InputSignature) and isinstance(y.signature, OutputSignature)
    assert (x.signature.layout, x.signature.colour, y.signature.classes) == ("NCHW", "RGB", NAMES)
    (x,), _ = signed([GRAY], [], Signature((InputSignature("image"),)))
    assert isinstance(x.signature, InputSignature)
    assert (x.signature.layout, x.signature.colour) == ("NHWC", "gray")


@pytest.mark.parametrize(
    ("spec", "record", "said"),
    [
        (GRAY, {"mean": (0.1, 0.2, 0.3)}, "mean has 3 values, and x: float32[1, 28, 28, 1] has 1 channel(s)"),
        (GRAY, {"colour": "RGB"}, "colour is RGB"),
        (RGB, {"crop": 192}, "its images become 192 x 192 (height x width), and x: float32[?, 3, 224, 224] takes 224"),
        (RGB, {"resize": Resize("stretch", (224, 225))}, "its images become 224 x 225"),
        (RGB, {"resize": Resize("shortest", 256)}, "the shorter side of its images becomes 256"),
        (RGB, {"layout": "NHWC"}, "has 224 channels in NHWC"),
        (RGB, {"layout": "NHW"}, "has 4 axes, and the layout is NHW"),
        (SCORES, {}, "is no image"),
        (TensorSpec("x", "uint8", (1, 3, 8, 8)), {"scale": 0.5}, "takes integers"),
    ],
)
def test_inputs_that_contradict(spec: TensorSpec, record: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        signed([spec], [], Signature((InputSignature("image", **record),)))
    assert said in caught.value.why


def test_a_shorter_side_of_the_right_size_may_do() -> None:
    """The pictures may all be squares."""
    assert signed([RGB], [], Signature((InputSignature("image", resize=Resize("shortest", 224)),)))


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((OutputSignature("logits", classes=NAMES[:999]),), "it names 999 classes, and y: float32[?, 1000] has 1000"),
        ((OutputSignature("logits", name="z"),), "there is no 'z': the model has y"),
        ((OutputSignature("logits"), OutputSignature("boxes")), "1 more than the model's 1: y"),
    ],
)
def test_outputs_that_contradict(records: tuple[OutputSignature, ...], said: str) -> None:
    with pytest.raises(InputError) as caught:
        signed([RGB], [SCORES], Signature((InputSignature("image", crop=10),), records))
    assert said in caught.value.why and "its images become 10 x 10" in caught.value.why


def test_layouts() -> None:
    shapes = {(1, 3, 8, 8): "NCHW", (1, 8, 8, 3): "NHWC", (1, 8, 8): "NHW", (1, 8): "", (1, 3, 8, 3): "NCHW"}
    assert {shape: layout_of(TensorSpec("x", "float32", shape)) for shape in shapes} == shapes
