"""How files become a model's input: by the signature, else by the options of the SET."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, Resize
from edgekit.sets.options import Options
from edgekit.sets.preprocessing import array_record, audio_signature, image_record, image_signature, normalize

IMAGENET = InputSignature(
    "image",
    layout="NCHW",
    colour="RGB",
    resize=Resize("shortest", 36),
    crop=32,
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def spec(shape: tuple[int | None, ...] = (None, 3, 32, 32), signature: InputSignature | None = None) -> TensorSpec:
    return TensorSpec("x", "float32", shape, signature=signature)


def test_the_models_signature_decides() -> None:
    assert image_signature(spec(signature=IMAGENET), Options(), "photos") is IMAGENET
    agrees = Options(size="32x32", scale=255, mean=IMAGENET.mean, std=IMAGENET.std, layout="nchw", channels=3)
    assert image_signature(spec(signature=IMAGENET), agrees, "photos") is IMAGENET


@pytest.mark.parametrize(
    "options",
    [{"mean": (0.5,)}, {"scale": 127.5}, {"size": "40"}, {"layout": "nhwc"}, {"channels": 1}, {"std": (1.0, 1.0, 1.0)}],
)
def test_an_option_that_contradicts_the_signature(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="contradicts the signature") as refused:
        image_signature(spec(signature=IMAGENET), Options(**options), "photos")
    assert next(iter(options)) in str(refused.value)


def test_without_a_signature_the_options_and_the_input_decide() -> None:
    known = image_signature(spec(), Options(scale=255, mean=(0.5,)), "photos")
    assert known.resize == Resize("stretch", (32, 32)) and known.interpolation == "bicubic"
    assert known.scale == pytest.approx(1 / 255) and known.mean == (0.5,)
    assert image_signature(None, Options(), "photos").resize is None
    assert image_signature(spec((None, 48, 40, 1)), Options(), "p").layout == "NHWC"


def test_sounds_for_a_model_of_images() -> None:
    with pytest.raises(InputError, match="holds sounds"):
        audio_signature(spec(signature=IMAGENET), Options(), "words")
    sound = InputSignature("audio", rate=8000, seconds=1.0)
    assert audio_signature(spec((None, 8000), sound), Options(rate=8000), "words") is sound
    with pytest.raises(InputError, match="rate"):
        audio_signature(spec((None, 8000), sound), Options(rate=16000), "words")


def test_records_for_the_program_of_a_bundle() -> None:
    record = array_record(spec(signature=IMAGENET), Options())
    assert record["kind"] == "image" and record["channels"] == 3 and record["height"] == 32 and record["crop"] == 32
    assert image_record(IMAGENET, spec())["width"] == 32
    sound = array_record(spec((None, 1, 16000)), Options(rate=16000))
    assert sound["kind"] == "audio" and sound["length"] == 16000 and sound["shape"] == [1, 16000]
    assert array_record(spec((None, 7, 9, 5)), Options()) == {"kind": "tensor"}


def test_normalize_divides_by_scale() -> None:
    array = np.array([[0, 255]], np.uint8)
    np.testing.assert_allclose(normalize(array, Options(scale=255, mean=(0.5,), std=(0.5,)), None), [[-1, 1]])
    assert normalize(array, Options(), None) is array
