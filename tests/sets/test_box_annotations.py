"""COCO's JSON and the YOLO layout: where they lie, polygons, and what is wrong with a file, by its name and line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from squares_detector import SQUARES, coco, detector, pictures, yolo

from edgekit.core.errors import InputError
from edgekit.runs import named_sets
from edgekit.sets.class_order import in_order_of

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")


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
        ({"annotations": box(iscrowd="many")}, r"not in COCO's format"),
        ({"images": [{"id": 10, "file_name": "0.png"}] * 2}, r"two images of .* have one id"),
        ({"images": [{"id": 10, "file_name": "0.png", "width": 64, "height": 64}]}, r"don't match|were drawn on"),
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
        ("val: images/val\nnames: 3\n", "names no classes"),
        ("val: images/val\nnames: [[red], green]\n", "names no classes"),
        ("val: images/val\nnames: {1: red, 2: green}\n", "not 0, 1, 2"),
        ("val: images/val\nnames: [red, red]\n", "names the class 'red' twice"),
        ("val: images/val\nnames: &a [*a]\n", "names no classes|is no YAML"),
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


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.1", "red 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1", "0 0.5 nan 0.1 0.1", "0 1e300 1 1 1"]
)
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


def test_a_class_that_has_no_name(tmp_path: Path) -> None:
    yaml = yolo(tmp_path)
    (tmp_path / "labels/val/0.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError) as error:
        named_sets.load(str(yaml), detector())
    assert "0.txt has the class 7, and there are 2" in error.value.why


@pytest.mark.parametrize("wrong", ["folder", "link", "latin-1"])
def test_a_label_file_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path, wrong: str) -> None:
    yaml, label = yolo(tmp_path), tmp_path / "labels/val/0.txt"
    label.unlink()
    if wrong == "folder":
        label.mkdir()
    elif wrong == "link":
        label.symlink_to("nowhere")
    else:
        label.write_bytes(b"0 0.5 0.5 0.1 0.1 \xe9\n")
    with pytest.raises(InputError, match="cannot be read"):
        named_sets.load(str(yaml), detector())


@pytest.mark.parametrize("names", ["{1: green, 0: red}", "{'0': red, '1': green}", "\n- red\n- green"])
def test_names_in_other_forms(tmp_path: Path, names: str) -> None:
    assert named_sets.load(str(yolo(tmp_path, names)), detector()).classes == ("red", "green")


def test_keypoints_follow_the_box(tmp_path: Path) -> None:
    yaml = yolo(tmp_path)
    yaml.write_text(yaml.read_text() + "kpt_shape: [2, 2]\n")
    (tmp_path / "labels/val/0.txt").write_text("0 0.5 0.5 0.25 0.25 0.1 0.1 0.9 0.9\n")
    labels = named_sets.load(str(yaml), detector()).labels
    assert labels is not None and labels[0, 1].tolist() == [0, 12, 12, 8, 8, 0]


def test_a_split_that_the_data_does_not_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no split 'test'"):
        named_sets.load(f"{yolo(tmp_path)}:test", detector())


def test_the_training_images_are_said(tmp_path: Path) -> None:
    yaml = yolo(tmp_path)
    yaml.write_text(yaml.read_text() + "train: images/val\n")
    assert any("no split is named" in note for note in named_sets.load(str(yaml), detector()).notes)
    assert not named_sets.load(f"{yaml}:val", detector()).notes


def test_a_changed_label_elsewhere_is_seen(tmp_path: Path) -> None:
    yaml = yolo(tmp_path / "data")
    other = tmp_path / "other" / "data.yaml"
    other.parent.mkdir()
    other.write_text(yaml.read_text().replace("path: .", f"path: {yaml.parent}"))
    before = named_sets.load(str(other), detector())
    (yaml.parent / "labels/val/0.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    assert named_sets.load(str(other), detector()).sha256 != before.sha256


def test_the_neighbours_folder_is_not_the_data_sets(tmp_path: Path) -> None:
    """Roboflow writes ../val for what lies beside its data.yaml."""
    yaml = yolo(tmp_path / "data")
    yaml.write_text("val: ../images/val\nnames: [red, green]\n")
    (tmp_path / "images" / "val").mkdir(parents=True)
    assert len(named_sets.load(str(yaml), detector())) == len(SQUARES)


def test_other_files_of_those_names(tmp_path: Path) -> None:
    """A folder of photos by class is that, whatever else lies in it."""
    for kind in ("cat", "dog"):
        pictures(tmp_path / kind)
    (tmp_path / "annotations.json").write_text("{}")
    (tmp_path / "data.yaml").write_text("version: 1\n")
    assert named_sets.load(str(tmp_path), detector()).classes == ("cat", "dog")


def test_a_category_without_a_box_may_be_unknown(tmp_path: Path) -> None:
    """Roboflow's first category stands above the others."""
    document = json.loads((coco(tmp_path) / "annotations.json").read_text())
    document["categories"].insert(0, {"id": 0, "name": "squares"})
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    data = named_sets.load(str(tmp_path), detector())
    ordered = in_order_of(data, ("red", "green")).labels
    assert ordered is not None and set(ordered[..., 0].ravel().tolist()) == {-2, -1, 0, 1}
