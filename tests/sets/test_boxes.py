"""Images with boxes: COCO's JSON and the YOLO layout agree, boxes go where the image goes, bad files are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from squares_detector import CELL, CLASSES, SIDE, SQUARES, WIDE, coco, detector, yolo

from edgekit.core.errors import InputError
from edgekit.runs import named_sets
from edgekit.sets.class_order import in_order_of

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")


def wanted(scale: int = 1) -> list[list[list[float]]]:
    """The boxes of each picture in pixels of the input; the second lies in a letterbox, a quarter from the top."""
    return [
        [
            [
                k,
                x * CELL * scale,
                (y * CELL + (SIDE // 4 if number == WIDE else 0)) * scale,
                CELL * scale,
                CELL * scale,
                0,
            ]
            for k, x, y in squares
        ]
        for number, squares in enumerate(SQUARES)
    ]


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("layout", [coco, yolo])
def test_both_layouts_give_the_boxes_in_pixels_of_the_input(tmp_path: Path, layout: Any, scale: int) -> None:
    data = named_sets.load(str(layout(tmp_path / "data")), detector(SIDE * scale))
    assert data.classes == CLASSES and data.labels is not None
    assert data.inputs["images"].shape == (len(SQUARES), 3, SIDE * scale, SIDE * scale)
    for label, boxes in zip(data.labels, wanted(scale), strict=True):
        assert label[label[:, 0] >= 0].tolist() == boxes
    areas = data.labels[:, 0].tolist()
    assert areas[0] == [-2, 0, 0, SIDE * scale, SIDE * scale, 0]
    assert areas[1] == [-2, 0, SIDE * scale / 4, SIDE * scale, SIDE * scale / 2, 0]
    red = data.inputs["images"][0, 0] > 0.9
    x, y = SQUARES[0][0][1:]
    middle = tuple(slice(i * CELL * scale + 2, (i + 1) * CELL * scale - 2) for i in (y, x))
    assert red[middle].all() and red.sum() <= (CELL * scale) ** 2


def test_splits_and_lists_of_files(tmp_path: Path) -> None:
    yaml = yolo(tmp_path)
    (tmp_path / "few.txt").write_text("./images/val/0.png\n./images/val/3.png\n")
    yaml.write_text(yaml.read_text() + "test: few.txt\ntrain: ../images/val\n")
    for split, count in (("val", 6), ("test", 2), ("train", 6)):
        assert len(named_sets.load(f"{yaml}:{split}", detector())) == count
    assert len(named_sets.load(str(tmp_path), detector())) == 14, "the folder of a data.yaml"


def test_a_crowd_is_told(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 10, "category_id": 1, "bbox": [0, 0, 8, 8], "iscrowd": 1}
    labels = named_sets.load(str(coco(tmp_path, annotations=[box])), detector()).labels
    assert labels is not None and labels[0, 1].tolist() == [0, 0, 0, 8, 8, 1]


def test_classes_are_the_models(tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path)), detector())
    ordered = in_order_of(data, ("blue", "green", "red")).labels
    assert ordered is not None and data.labels is not None
    kinds, before = ordered[..., 0], data.labels[..., 0]
    assert (kinds[before == 0] == 2).all() and (kinds[before == 1] == 1).all() and (kinds[before < 0] < 0).all()
    with pytest.raises(InputError, match="classes that the model does not: 'green'"):
        in_order_of(data, ("red", "blue"))
