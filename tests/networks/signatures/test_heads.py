"""Detectors' outputs: recognised where shapes decide it, asked for where they do not, and stated by a family's name."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import OutputSignature, Signature
from edgekit.core.signature_check import signed
from edgekit.networks import signatures
from edgekit.networks.signatures import heads
from edgekit.steps.shared.signed import known

Shape = tuple[int | None, ...]


def image(height: int | None = 64, width: int | None = 96, layout: str = "NCHW") -> list[TensorSpec]:
    shape = (1, 3, height, width) if layout == "NCHW" else (1, height, width, 3)
    return [TensorSpec("images", "float32", shape)]


def outputs(*shapes: Shape, names: tuple[str, ...] = ()) -> list[TensorSpec]:
    return [TensorSpec(names[i] if names else f"output{i}", "float32", (1, *shape)) for i, shape in enumerate(shapes)]


def lists(*specs: tuple[str, str, Shape]) -> list[TensorSpec]:
    return [TensorSpec(name, dtype, (1, None, *rest)) for name, dtype, rest in specs]


BOXES, LABELS, SCORES = ("boxes", "float32", (4,)), ("labels", "int64", ()), ("scores", "float32", ())


@pytest.mark.parametrize("order", [(BOXES, LABELS, SCORES), (BOXES, SCORES, LABELS), (SCORES, LABELS, BOXES)])
def test_torchvisions_lists(order: Any) -> None:
    """In any order; a mask that follows has no meaning here."""
    masks = TensorSpec("masks", "float32", (1, None, 1, 64, 96))
    found = heads.of_family("torchvision", image(), [*lists(*order), masks])
    records = {record.name: record for record in found.outputs}
    assert records["boxes"].boxes == "xyxy" and records["boxes"].suppressed and records["scores"].kind == "scores"
    assert records["labels"].kind == "class-ids" and records["labels"].background == "first"
    assert found.inputs[0].resize.mode == "letterbox-corner" and heads.complete(found.outputs)  # type: ignore[union-attr]


@pytest.mark.parametrize("classes", [21, 4])
def test_torchvisions_boxes_of_all_anchors(classes: int) -> None:
    """The network in code knows its preprocessing, which the class names that are given leave as it is."""
    specs = outputs((99, 4), (99, classes), names=("boxes", "scores"))
    for order in (specs, specs[::-1]):
        found = heads.of_family("torchvision", image(), order)
        assert [(record.kind, record.name) for record in found.outputs] == [("boxes", "boxes"), ("scores", "scores")]
        assert found.outputs[1].background == "first" and not found.outputs[0].suppressed and not found.inputs


def test_torchvisions_outputs_are_no_others() -> None:
    for specs in (lists(BOXES, LABELS), lists(BOXES, SCORES, SCORES), outputs((84, CELLS))):
        with pytest.raises(InputError, match="not the outputs of torchvision"):
            heads.of_family("torchvision", image(), specs)


CELLS = 8 * 12 + 4 * 6 + 2 * 3  # of strides 8, 16, 32 over 64 x 96


@pytest.mark.parametrize(
    ("shape", "classes", "wanted"),
    [
        ((84, CELLS), 0, {"columns": "scores", "transposed": True}),
        ((84, CELLS), 80, {"columns": "scores", "transposed": True}),
        ((CELLS, 84), 80, {"columns": "scores", "transposed": False}),
        ((CELLS * 3, 85), 0, {"columns": "objectness", "transposed": False}),
        ((CELLS * 3, 6), 1, {"columns": "objectness"}),
        ((300, 6), 2, {"columns": "score-class", "boxes": "xyxy", "suppressed": True}),
        ((84, CELLS), 79, None),  # one more than four: no classes of this model
        ((CELLS, 85), 0, None),  # YOLOX's cells, YOLOv6's pixels, or 81 classes
        ((CELLS, 85), 80, None),
        ((CELLS, CELLS), 0, None),
        ((300, 6), 0, None),
        ((128, 6), 0, None),
        ((84, CELLS + 1), 0, None),
        ((4, CELLS), 0, None),
        ((None, 84), 80, None),
        ((10,), 0, None),
        ((21, 64, 96), 0, None),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_shapes(shape: Shape, classes: int, wanted: dict[str, Any] | None, layout: str) -> None:
    wanted = None if layout == "NHWC" and not classes else wanted  # of TFLite's, pixels or shares
    stated = (OutputSignature("boxes", classes=tuple(map(str, range(classes)))),) if classes else ()
    found = heads.recognised(image(layout=layout), outputs(shape), stated)
    if wanted is None:
        assert not found
        return
    (record,) = found.outputs
    assert {key: getattr(record, key) for key in wanted} == wanted
    assert heads.complete(found.outputs) and len(record.classes) == classes
    assert found.inputs[0].resize is not None and found.inputs[0].resize.size == (64, 96)
    signed(image(layout=layout), outputs(shape), found)


def test_no_image_no_detector() -> None:
    tokens = [TensorSpec("ids", "int64", (1, 128))]
    assert not heads.recognised(tokens, outputs((300, 6)))
    assert not heads.recognised(image(None, None), outputs((84, CELLS)))
    assert not heads.recognised(image() * 2, outputs((84, CELLS)))


def test_outputs_with_masks_or_maps_are_not_recognised() -> None:
    assert not heads.recognised(image(), outputs((84, CELLS), (32, 16, 24)))


def test_what_is_stated_stays() -> None:
    assert not heads.recognised(image(), outputs((84, CELLS)), (OutputSignature("logits"),))
    stated = (OutputSignature("boxes", boxes="xywh", columns="scores", transposed=True),)
    assert not heads.recognised(image(), outputs((84, CELLS)), stated)


def test_the_post_processing_of_tensorflow_lite() -> None:
    names = ("TFLite_Detection_PostProcess", *(f"TFLite_Detection_PostProcess:{i}" for i in (1, 2, 3)))
    found = heads.recognised(image(layout="NHWC"), outputs((10, 4), (10,), (10,), (), names=names))
    assert [record.kind for record in found.outputs] == ["boxes", "class-ids", "scores", "count"]
    assert not heads.recognised(image(layout="NHWC"), outputs((10, 4), (10,), (10,), ()))


@pytest.mark.parametrize(
    ("family", "shapes", "kinds"),
    [
        ("yolov5", [(CELLS * 3, 85)], ["boxes"]),
        ("yolox", [(CELLS, 85)], ["boxes"]),
        ("detr", [(100, 92), (100, 4)], ["scores", "boxes"]),
        ("detr", [(100, 4), (100, 92)], ["boxes", "scores"]),
        ("rt-detr", [(300, 80), (300, 4)], ["scores", "boxes"]),
        ("ssd", [(10, 4), (10,), (10,), ()], ["boxes", "class-ids", "scores", "count"]),
    ],
)
def test_families(family: str, shapes: list[Shape], kinds: list[str]) -> None:
    stated = signatures.read(family)
    assert stated.outputs[0].family == family
    found, details = known(stated.to_json(), None, (Signature(), ""), image(), outputs(*shapes))
    assert [record.kind for record in found.outputs] == kinds and heads.complete(found.outputs)
    assert not any(record.family for record in found.outputs), "what it stands for is written out"
    assert details == {"signature": "--signature"}
    signed(image(), outputs(*shapes), found)


def test_the_classes_that_are_given_with_a_family() -> None:
    stated = signatures.with_classes(signatures.read("detr"), ("cat", "dog"))
    found, _ = known(stated.to_json(), None, (Signature(), ""), image(), outputs((100, 3), (100, 4)))
    assert found.classes == ("cat", "dog")


def test_the_classes_that_the_model_carries() -> None:
    names = tuple(map(str, range(80)))
    carried = Signature((), (OutputSignature(classes=names),)), "the file's metadata"
    found, _ = known(signatures.read("yolov8").to_json(), None, carried, image(), outputs((84, CELLS)))
    assert found.classes == names


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("detr", [(84, CELLS)]),
        ("yolov8", [(10,)]),
        ("yolov8", [(CELLS, 84)]),
        ("yolov5", [(84, CELLS)]),
        ("yolov10", [(300, 21)]),
        ("yolox", [(CELLS + 1, 85)]),
        ("ssd", [(10, 4)]),
    ],
)
def test_outputs_of_no_such_family(family: str, shapes: list[Shape]) -> None:
    with pytest.raises(InputError, match=f"not the outputs of {family}"):
        known(signatures.read(family).to_json(), None, (Signature(), ""), image(), outputs(*shapes))


def test_class_names_that_do_not_fit() -> None:
    record = OutputSignature("boxes", boxes="cxcywh", columns="scores", transposed=True, classes=("a", "b"))
    with pytest.raises(InputError, match=r"names 2 classes, and .* has 80"):
        signed(image(), outputs((84, CELLS)), Signature((), (record,)))


def test_the_names_of_scores_that_do_not_fit() -> None:
    records = (
        OutputSignature("boxes", boxes="xyxy", relative=True),
        OutputSignature("scores", classes=("a", "b", "c")),
    )
    with pytest.raises(InputError, match=r"names 3 classes, and .* has 2"):
        signed(image(), outputs((100, 4), (100, 2)), Signature((), records))


def test_what_is_asked() -> None:
    error = heads.unknown("net", outputs((CELLS, 85)))
    assert "output0: float32[1, 126, 85]" in error.why and "--signature yolov5|yolov8" in error.next
