"""Decoding a detector's outputs: every encoding against boxes that are known, suppression, and pixels of the image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.ondevice import detections, preprocess

SIZE = (64, 96)  # height, width
CORNERS = np.array([[8, 4, 40, 30], [50, 20, 90, 60], [9, 5, 40, 31]], np.float32)
SCORES = np.array([[0.9, 0.01, 0.02], [0.03, 0.02, 0.8], [0.7, 0.05, 0.01]], np.float32)
WANTED = [[0, 0.9, 8, 4, 32, 26], [2, 0.8, 50, 20, 40, 40]]  # the third overlaps the first


def centred(corners: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = corners.T
    return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def record(**keys: Any) -> dict[str, Any]:
    return {"kind": "boxes", "boxes": "cxcywh", **keys}


def joined(*columns: np.ndarray) -> np.ndarray:
    return np.concatenate(columns, axis=1)[None]


SHARE = np.array([96, 64, 96, 64], np.float32)
ENCODINGS: dict[str, tuple[list[np.ndarray], list[dict[str, Any]]]] = {
    "yolov8": ([joined(centred(CORNERS), SCORES).swapaxes(1, 2)], [record(columns="scores", transposed=True)]),
    "yolov5": ([joined(centred(CORNERS), np.full((3, 1), 0.5), SCORES * 2)], [record(columns="objectness")]),
    "logits": ([joined(centred(CORNERS), logit(SCORES))], [record(columns="scores", activation="sigmoid")]),
    "best class": (
        [joined(CORNERS[:2], [[0.9, 0], [0.8, 2]])],
        [record(boxes="xyxy", columns="score-class", suppressed=True)],
    ),
    "corner and size": (
        [joined(np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], axis=1), SCORES)],
        [record(boxes="xywh", columns="scores")],
    ),
    "detr": (
        [
            np.log(np.concatenate([SCORES[:2], 1 - SCORES[:2].sum(axis=1, keepdims=True)], axis=1))[None] + 3,
            (centred(CORNERS) / SHARE)[None, :2],
        ],
        [{"kind": "scores", "activation": "softmax", "background": "last"}, record(relative=True, suppressed=True)],
    ),
    "ssd": (
        [
            (CORNERS / SHARE)[None][..., [1, 0, 3, 2]],
            np.array([[0, 2, 1]], np.float32),
            np.array([[0.9, 0.8, 0.95]], np.float32),
            np.array([2], np.float32),
        ],
        [
            record(boxes="yxyx", relative=True, suppressed=True),
            {"kind": "class-ids"},
            {"kind": "scores"},
            {"kind": "count"},
        ],
    ),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_says_the_same(name: str) -> None:
    outputs, records = ENCODINGS[name]
    assert detections.decodes(records)
    (found,) = detections.decode(outputs, records, SIZE)
    np.testing.assert_allclose(found, WANTED, atol=1e-3)


def test_yolox_gives_boxes_in_cells() -> None:
    """A box of the second grid: offset from its cell, and the logarithm of its size in cells."""
    cells = sum(math.ceil(64 / s) * math.ceil(96 / s) for s in (8, 16, 32))
    output = np.zeros((1, cells, 4 + 1 + 3), np.float32)
    index = 8 * 12 + 1 * 6 + 2  # the first grid has 8 x 12 cells; row 1, column 2 of the second
    output[0, index] = [0.25, 0.5, np.log(3), np.log(1.5), 0.9, 0, 1, 0]
    (found,) = detections.decode([output], [record(columns="objectness", strides=[8, 16, 32])], SIZE)
    np.testing.assert_allclose(found, [[1, 0.9, 2.25 * 16 - 24, 1.5 * 16 - 12, 48, 24]], rtol=1e-5)
    with pytest.raises(ValueError, match="have 126 cells, and the output 125 boxes"):
        detections.decode([output[:, 1:]], [record(columns="objectness", strides=[8, 16, 32])], SIZE)


def test_offsets_from_anchors() -> None:
    """SSD (Liu et al. 2016, section 2.2): centre = anchor + 0.1 * code * side, size = side * exp(0.2 * code); the
    anchors of a cell follow each other."""
    keys = {"strides": [16, 32], "anchors": [[[16, 16], [24, 12]], [[40, 40]]], "variances": [0.1, 0.1, 0.2, 0.2]}
    count = (4 * 6) * 2 + 2 * 3
    codes = np.zeros((1, count, 4), np.float32)
    scores = np.zeros((1, count, 1), np.float32)
    first, second = (1 * 6 + 2) * 2 + 1, 48 + 1 * 3 + 2  # row 1, column 2, the wide anchor; row 1, column 2
    codes[0, first] = [2.5, -5, 5 * np.log(2), 0]
    scores[0, [first, second], 0] = 0.9, 0.8
    records = [record(**keys), {"kind": "scores"}]
    (found,) = detections.decode([codes, scores], records, SIZE)
    wide = [40 + 0.25 * 24 - 24, 24 - 0.5 * 12 - 6, 48, 12]
    np.testing.assert_allclose(found, [[0, 0.9, *wide], [0, 0.8, 80 - 20, 48 - 20, 40, 40]], rtol=1e-5)
    (corner,) = detections.decode([codes, scores], [record(**keys, origin=0.0), {"kind": "scores"}], SIZE)
    np.testing.assert_allclose(corner[:, 2:4], found[:, 2:4] - [[8, 8], [16, 16]], rtol=1e-5)
    with pytest.raises(ValueError, match="have 54 anchors, and the output 53 boxes"):
        detections.decode([codes[:, 1:], scores[:, 1:]], records, SIZE)


def test_class_ids_that_count_a_background() -> None:
    boxes, scores, ids = CORNERS[None], np.full((1, len(CORNERS)), 0.9), np.arange(len(CORNERS))[None]
    records = [record(boxes="xyxy", suppressed=True), {"kind": "scores"}, {"kind": "class-ids", "background": "first"}]
    (found,) = detections.decode([boxes, scores, ids], records, SIZE)
    assert sorted(found[:, 0]) == list(range(len(CORNERS) - 1)), "the background is no box"


def test_suppression_is_per_class_and_several_classes_of_a_box_count() -> None:
    boxes = joined(centred(CORNERS), np.array([[0.9, 0.6, 0], [0, 0, 0.8], [0.7, 0.65, 0]], np.float32))
    (found,) = detections.decode([boxes], [record(columns="scores")], SIZE)
    assert [(int(k), round(float(s), 2)) for k, s in found[:, :2]] == [(0, 0.9), (2, 0.8), (1, 0.65)]
    (all_of_them,) = detections.decode([boxes], [record(columns="scores", suppressed=True)], SIZE)
    assert len(all_of_them) == 5


def test_values_that_are_no_numbers_are_no_boxes() -> None:
    boxes = joined(centred(CORNERS), SCORES).astype(np.float32)
    boxes[0, 0, 0] = np.nan
    (found,) = detections.decode([boxes], [record(columns="scores")], SIZE)
    assert [int(k) for k in found[:, 0]] == [2, 0], "the second box of the first class is found instead"


@pytest.mark.parametrize(
    ("records", "complete"),
    [
        ([{"kind": "boxes", "boxes": "cxcywh"}], False),
        ([{"kind": "boxes", "boxes": "cxcywh"}, {"kind": "scores"}], True),
        ([{"kind": "boxes", "columns": "scores"}], False),
        ([{"kind": "logits"}], False),
        ([], False),
    ],
)
def test_what_can_be_decoded(records: list[dict[str, Any]], complete: bool) -> None:
    assert detections.decodes(records) is complete


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(
        [
            {"resize": {"mode": "letterbox", "size": [64, 96]}},
            {"resize": {"mode": "letterbox-corner", "size": [64, 96]}},
            {"resize": {"mode": "stretch", "size": 50}},
            {"resize": {"mode": "shortest", "size": 40}, "crop": 32},
            {"resize": {"mode": "shortest", "size": 30}, "crop": [44, 20], "crop_offset": "down"},
            {"crop": 24},
            {"height": 17, "width": 40},
            {},
        ]
    ),
)
@settings(max_examples=80, deadline=None)
def test_boxes_return_to_the_image(height: int, width: int, front: dict[str, Any]) -> None:
    """Where the decoder puts an image's pixels is where `placement` says, and `in_image` undoes it."""
    if min(height, width) * 20 < max(height, width):
        return
    placed = preprocess.placement(front, height, width)
    box = np.array([[1, 0.5, 0.2 * width, 0.3 * height, 0.6 * width, 0.5 * height]], np.float32)
    scale_y, scale_x, top, left = placed
    inside = box.copy()
    inside[:, 2:] *= [scale_x, scale_y, scale_x, scale_y]
    inside[:, 2:4] += [left, top]
    np.testing.assert_allclose(detections.in_image(inside, placed, (height, width)), box, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "front",
    [
        {"resize": {"mode": "letterbox", "size": [64, 96]}},
        {"resize": {"mode": "letterbox-corner", "size": [64, 96]}},
        {"resize": {"mode": "shortest", "size": 40}, "crop": 32},
        {"crop": 48},
        {"resize": {"mode": "stretch", "size": [30, 60]}},
    ],
)
def test_placement_is_where_the_pixels_are(front: dict[str, Any]) -> None:
    """A bright block in the middle of an image lies in the sample where `placement` says, to the pixel."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[25:35, 35:45] = 255
    sample = preprocess.image(pixels, {**front, "channels": 3})[0]
    scale_y, scale_x, top, left = preprocess.placement(front, 60, 80)
    rows, columns = np.nonzero(sample > 127)
    found = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    wanted = 25 * scale_y + top, 35 * scale_y + top, 35 * scale_x + left, 45 * scale_x + left
    assert np.abs(np.subtract(found, wanted)).max() <= 1


def test_boxes_outside_the_image_are_clipped_and_dropped() -> None:
    boxes = np.array([[0, 0.9, -5, 2, 10, 4], [1, 0.8, 70, 2, 10, 4]], np.float32)
    np.testing.assert_allclose(detections.in_image(boxes, (1, 1, 0, 0), (20, 60)), [[0, 0.9, 0, 2, 5, 4]])
    np.testing.assert_allclose(detections.clipped(boxes, (0, 3, 60, 10)), [[0, 0.9, 0, 3, 5, 3]])


def test_agreement_counts_sure_boxes_of_both() -> None:
    one = [np.array([[0, 0.9, 0, 0, 10, 10], [1, 0.3, 30, 30, 9, 9]], np.float32)]
    moved = [np.array([[0, 0.6, 1, 1, 10, 10]], np.float32)]
    assert detections.agreement(one, moved) == 1, "a box near the threshold does not count"
    assert detections.agreement(one, [np.zeros((0, 6), np.float32)]) == 0
    other_class = [np.array([[1, 0.6, 1, 1, 10, 10]], np.float32)]
    assert detections.agreement(one, other_class) == 0
    assert detections.agreement([np.zeros((0, 6))], [np.zeros((0, 6))]) is None


def test_class_ids_that_are_none() -> None:
    """A count of valid boxes that is too large, or ids of -1 behind the last one."""
    outputs, records = ENCODINGS["ssd"]
    for wrong in (-1, np.nan):
        ids = np.array([[0, 2, wrong]], np.float32)
        (found,) = detections.decode([outputs[0], ids, outputs[2], np.array([3])], records, SIZE)
        np.testing.assert_allclose(found, WANTED, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x, ""),
        (lambda x: x * [1, 1, 1, 1, 9, 9, 9] - [0, 0, 0, 0, 4, 4, 4], "state activation"),
        (lambda x: x * [1, 1, 1, 1, 300, 300, 300], "there is 270"),
        (lambda x: x * [1, 1, 1, 1, 5, 5, 5], ""),  # what one scale of int8 does to scores
        (lambda x: x / [96, 64, 96, 64, 1, 1, 1], "state relative = true"),
    ],
)
def test_outputs_that_the_signature_cannot_be_right_about(change: Any, message: str) -> None:
    values = change(joined(centred(CORNERS), SCORES))
    assert message in detections.doubt([values], [record(columns="scores")], SIZE)
    assert bool(detections.doubt([values], [record(columns="scores")], SIZE)) is bool(message)


def test_in_words() -> None:
    told = detections.entries(np.array([[1, 0.914, 3.26, 4, 10, 20], [5, 0.5, 0, 0, 1, 1]], np.float32), ["cat", "dog"])
    assert told[0] == {"class": "dog", "score": 0.914, "box": [3.3, 4.0, 10.0, 20.0]}
    assert detections.text(told) == "dog 91% at 3,4 10x20; 5 50% at 0,0 1x1"
    assert detections.text([]) == "no boxes"
