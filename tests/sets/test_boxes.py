"""Images with boxes: COCO's JSON and the YOLO layout agree, boxes go where the image goes, bad files are named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from squares_detector import CELL, CLASSES, SIDE, SQUARES, WIDE, coco, yolo

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, Resize
from edgekit.runs import named_sets
from edgekit.sets.class_order import in_order_of

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")


def detector(size: int = SIDE, **resize: Any) -> tuple[TensorSpec]:
    record = InputSignature("image", layout="NCHW", colour="RGB", resize=Resize("letterbox", size, 114), scale=1 / 255)
    return (TensorSpec("images", "float32", (1, 3, size, size), signature=record),)


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


@pytest.mark.parametrize("where", ["annotations/instances_val2017.json", "valid/_annotations.coco.json"])
def test_other_places_of_the_json(tmp_path: Path, where: str) -> None:
    coco(tmp_path)
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / "annotations.json").rename(tmp_path / where)
    (tmp_path / "images").rename(tmp_path / ("val2017" if "2017" in where else "valid/images"))
    assert len(named_sets.load(f"{tmp_path}:val", detector())) == len(SQUARES)


def test_polygons_and_pictures_without_objects(tmp_path: Path) -> None:
    yaml = yolo(tmp_path)
    (tmp_path / "labels/val/0.txt").write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n\n")
    labels = named_sets.load(str(yaml), detector()).labels
    assert labels is not None
    assert labels[0, 1].tolist() == [1, 8, 8, 16, 16, 0], "the bounds of a polygon"
    assert (labels[3, 1:, 0] < 0).all()


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


def box(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 1, "image_id": 10, "category_id": 1, "bbox": [0, 0, 8, 8], **changes}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": box(image_id=77)}, r"image ids of .* don't match.*image_id 77"),
        ({"annotations": box(category_id=3)}, r"has the category 3"),
        ({"annotations": box(bbox=[1, 2, 3])}, r"not in COCO's format"),
        ({"annotations": box(bbox="all")}, r"not in COCO's format"),
        ({"annotations": 3}, r"not in COCO's format"),
        ({"categories": []}, r"names no categories"),
        ({"images": []}, r"names no images"),
        ({"images": [{"id": 10, "file_name": "../../secret.png"}]}, r"outside its folder"),
        (
            {"images": [{"id": 10, "file_name": "gone.png"}], "annotations": []},
            r"1 of 1 samples .* cannot be read.*there is no such file",
        ),
        ({"annotations": box(bbox=[0, 0, 80, 8])}, r"lies outside the image: .*0, 0, 80, 8, and the image is 32x32"),
        ({"annotations": box(bbox=[0, 0, 0, 8])}, r"is empty"),
        ({"annotations": box(bbox=[float("nan"), 0, 1, 8])}, r"lies outside the image"),
    ],
)
def test_bad_coco_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        named_sets.load(str(coco(tmp_path, **changes)), detector())
    assert re.search(message, f"{error.value.what}: {error.value.why}")


def test_a_few_bad_images_are_skipped_and_named(tmp_path: Path) -> None:
    folder = coco(tmp_path)
    document = json.loads((folder / "annotations.json").read_text())
    document["images"] += [{"id": 100 + i, "file_name": "0.png"} for i in range(30)]
    document["annotations"] += [{"id": 99, "image_id": 100, "category_id": 1, "bbox": [30, 0, 30, 8]}]
    (folder / "annotations.json").write_text(json.dumps(document))
    data = named_sets.load(str(folder), detector())
    assert len(data) == len(SQUARES) + 29
    assert len(data.skipped) == 1 and "lies outside the image" in data.skipped[0]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("val: images/val\n", "names no classes"),
        ("val: images/val\nnames: red\n", "names no classes"),
        ("names: [red, green]\n", "names no images"),
        ("val: nowhere\nnames: [red, green]\n", "names 'nowhere', which does not exist"),
        ("just text", "no data.yaml"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_bad_yaml(tmp_path: Path, yaml: str, message: str) -> None:
    yolo(tmp_path).write_text(yaml)
    with pytest.raises(InputError, match=message):
        named_sets.load(str(tmp_path / "data.yaml"), detector())


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "red 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1", "0 0.5 nan 0.1 0.1"])
def test_bad_lines(tmp_path: Path, line: str) -> None:
    yaml = yolo(tmp_path)
    (tmp_path / "labels/val/0.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(InputError) as error:
        named_sets.load(str(yaml), detector())
    assert "line 2 of 0.txt" in error.value.why and "a line is: class" in error.value.why


def test_pixels_where_shares_are_due_lie_outside(tmp_path: Path) -> None:
    yaml = yolo(tmp_path)
    (tmp_path / "labels/val/0.txt").write_text("0 16 16 8 8\n")
    with pytest.raises(InputError) as error:
        named_sets.load(str(yaml), detector())
    assert "lies outside the image" in error.value.why
