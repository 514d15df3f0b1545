"""Which output is the mask, in which form, and what is asked where neither signature nor shapes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifact import Artifact, Kind, Sizes, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, OutputSignature
from edgekit.core.task import Scores
from edgekit.sets.masks import IGNORED
from edgekit.tasks.shared import by_signature

HEIGHT, WIDTH, CLASSES, COUNT = 32, 48, 5, 4


def model(*outputs: TensorSpec, layout: str = "NCHW") -> Artifact:
    shape = (None, HEIGHT, WIDTH, 3) if layout == "NHWC" else (None, 3, HEIGHT, WIDTH)
    image = TensorSpec("x", "float32", shape, signature=InputSignature("image", layout=layout))  # type: ignore[arg-type]
    tensors = (image,), outputs, Sizes(1, 1, 0, 0), {}, Path("onnx")
    return Artifact("onnx", "id", Kind("onnx"), "import_onnx", {}, (), "", *tensors)  # type: ignore[arg-type]


def output(name: str, shape: tuple[int | None, ...], dtype: str = "float32", **said: Any) -> TensorSpec:
    return TensorSpec(name, dtype, shape, signature=OutputSignature(**said) if said else None)


def data(classes: int = CLASSES, seed: int = 0) -> SampleSet:
    """Masks of blocks of 8 x 8 pixels."""
    blocks = np.random.default_rng(seed).integers(0, classes, (COUNT, HEIGHT // 8, WIDTH // 8))
    masks = blocks.repeat(8, 1).repeat(8, 2).astype(np.uint8)
    return SampleSet("masks", {"x": np.zeros((COUNT, 3, HEIGHT, WIDTH), np.uint8)}, masks, "sha")


def labels(of: SampleSet) -> np.ndarray:
    assert of.labels is not None
    return of.labels


def right(of: SampleSet) -> np.ndarray:
    """(N, C, H, W) scores whose largest are the labels'."""
    return (labels(of)[:, None] == np.arange(CLASSES)[:, None, None]).astype(np.float32)


def score(of: SampleSet, network: Artifact, **outputs: np.ndarray) -> Scores:
    return by_signature.scorer(of, network)(outputs, labels(of))


FORMS = {
    "scores first": ((None, CLASSES, HEIGHT, WIDTH), lambda x: x),
    "scores last": ((None, HEIGHT, WIDTH, CLASSES), lambda x: x.transpose(0, 2, 3, 1)),
    "smaller, first": ((None, CLASSES, HEIGHT // 8, WIDTH // 8), lambda x: x[:, :, 4::8, 4::8]),
    "smaller, last": ((None, HEIGHT // 8, WIDTH // 8, CLASSES), lambda x: x[:, :, 4::8, 4::8].transpose(0, 2, 3, 1)),
    "open sizes": ((None, CLASSES, None, None), lambda x: x),
}


@pytest.mark.parametrize("kind", ["", "mask", "logits"])
@pytest.mark.parametrize("form", FORMS)
def test_scores(form: str, kind: str) -> None:
    shape, arranged = FORMS[form]
    of = data()
    network = model(output("y", shape, **({"kind": kind} if kind else {})))
    value = score(of, network, y=arranged(right(of))).value
    # interpolation moves edges; a wrong axis would leave chance
    assert value == 1 if "smaller" not in form else value > 0.7
    assert score(of, network, y=arranged(right(of)[:, ::-1])).value < 0.5


@pytest.mark.parametrize(
    ("shape", "dtype", "arranged"),
    [
        ((None, HEIGHT, WIDTH), "int64", lambda x: x.argmax(1)),
        ((None, 1, HEIGHT, WIDTH), "int32", lambda x: x.argmax(1)[:, None].astype(np.int32)),
        ((None, HEIGHT, WIDTH, 1), "uint8", lambda x: x.argmax(1)[..., None].astype(np.uint8)),
        ((None, HEIGHT // 2, WIDTH // 2), "int64", lambda x: x.argmax(1)[:, ::2, ::2]),
    ],
)
def test_classes(shape: tuple[int | None, ...], dtype: str, arranged: Any) -> None:
    of = data()
    assert score(of, model(output("y", shape, dtype)), y=arranged(right(of))).value == 1


@pytest.mark.parametrize("shape", [(None, 1, HEIGHT, WIDTH), (None, HEIGHT, WIDTH, 1), (None, HEIGHT, WIDTH)])
@pytest.mark.parametrize(("activation", "low", "high"), [("sigmoid", -3.0, 0.2), ("none", 0.3, 0.8)])
def test_one_score_per_pixel(shape: tuple[int | None, ...], activation: str, low: float, high: float) -> None:
    of = data(2)
    values = np.where(labels(of) == 1, high, low).reshape([COUNT, *map(int, shape[1:])])  # type: ignore[arg-type]
    stated = model(output("y", shape, kind="mask", activation=activation))
    assert score(of, stated, y=values).value == 1
    with pytest.raises(InputError, match="a logit or a probability") as caught:
        score(of, model(output("y", shape, kind="mask")), y=values)
    assert 'activation = "sigmoid"' in caught.value.next


def test_the_first_of_a_dict_is_the_mask() -> None:
    of, shape = data(), (None, CLASSES, HEIGHT, WIDTH)
    found, wrong = right(of), right(of)[:, ::-1]
    assert score(of, model(output("out", shape), output("aux", shape)), out=found, aux=wrong).value == 1
    two = model(output("a", shape, kind="mask"), output("b", shape, kind="mask"))
    assert score(of, two, a=found, b=wrong).value == 1
    assert score(of, two, StatefulPartitionedCall_0=found, StatefulPartitionedCall_1=wrong).value == 1


def test_outputs_that_may_both_be_the_mask_are_asked_about() -> None:
    shape = (None, CLASSES, HEIGHT, WIDTH)
    with pytest.raises(InputError, match="which output") as caught:
        by_signature.scorer(data(), model(output("a", shape), output("b", shape)))
    assert str(list(shape[1:]))[1:-1] in caught.value.why
    assert '[[output]] with name = "a or b" and kind = "mask"' in caught.value.next


@pytest.mark.parametrize("shape", [(None, 1000), (None, 1000, 1, 1), (None, CLASSES, 20, 7), (None, 100, 6)])
def test_an_output_that_is_no_mask_is_asked_about(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(InputError, match="which output"):
        by_signature.scorer(data(), model(output("y", shape)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_equal_sides_are_told_apart(layout: str) -> None:
    """(N, 32, 32, 32) by the input's layout; by the number of the classes where that is known."""
    masks = np.random.default_rng(0).integers(0, CLASSES, (COUNT, 32, 32)).astype(np.uint8)
    of = SampleSet("masks", {"x": np.zeros((COUNT, 3, 32, 32), np.uint8)}, masks, "sha")
    values = (masks[:, None] == np.arange(32)[:, None, None]).astype(np.float32)
    arranged = values if layout == "NCHW" else values.transpose(0, 2, 3, 1)
    assert score(of, model(output("y", (None, 32, 32, 32)), layout=layout), y=arranged).value == 1


def test_classes_beyond_the_model_s_are_named() -> None:
    of = data(8)
    with pytest.raises(InputError, match="that the model does not: 5, 6, 7") as caught:
        by_signature.scorer(of, model(output("y", (None, CLASSES, HEIGHT, WIDTH))))
    assert "has 5 classes" in caught.value.why and "mask_values=1-5" in caught.value.next
    named = output("y", (None, HEIGHT, WIDTH), "int64", kind="mask", classes=("a", "b", "c"))
    with pytest.raises(InputError, match="does not: 3, 4"):
        by_signature.scorer(data(), model(named))


def test_masks_of_black_and_white_are_asked_about() -> None:
    masks = np.where(labels(data(2)) == 1, IGNORED, 0).astype(np.uint8)
    of = SampleSet("masks", data().inputs, masks, "sha")
    with pytest.raises(InputError, match="nothing to tell apart") as caught:
        by_signature.scorer(of, model(output("y", (None, CLASSES, HEIGHT, WIDTH))))
    assert "mask_values=0,255" in caught.value.next
