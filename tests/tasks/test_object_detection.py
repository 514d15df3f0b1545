"""Boxes: decoding and suppression by hand, mAP's resampling against COCOeval itself, COCO folders, bad boxes."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.ondevice import boxes
from edgekit.tasks.object_detection import ObjectDetection


def labels(count: int = 30, seed: int = 0) -> np.ndarray:
    """One to three boxes of three classes per picture of 64 pixels; the rest is filled up with class -1."""
    rng = np.random.default_rng(seed)
    out = np.full((count, 3, 5), -1, np.float32)
    for one in out:
        for index in range(rng.integers(1, 4)):
            w, h = rng.integers(8, 24, 2)
            one[index] = rng.integers(3), rng.integers(64 - w), rng.integers(64 - h), w, h
    return out


def perfect(wanted: np.ndarray, noise: float = 0.0) -> dict[str, np.ndarray]:
    """The maps that say just that."""
    torch = pytest.importorskip("torch")
    from edgekit.tasks.shared.boxes import centre_maps

    heat, sizes, _ = centre_maps(torch.from_numpy(wanted), 3, 16, 16)
    centres = torch.logit(heat.clamp(0.001, 0.999)).numpy()
    shaken = np.random.default_rng(1).normal(size=sizes.shape) * noise
    return {"centres": centres, "boxes": (sizes.numpy() + shaken).astype(np.float32)}


def test_maps_decode_to_the_boxes_they_were_made_of() -> None:
    pytest.importorskip("torch")
    wanted = labels(1)
    wanted[0] = [[0, 4, 8, 20, 12], [2, 40, 40, 16, 16], [-1, -1, -1, -1, -1]]
    maps = perfect(wanted)
    found = boxes.decode(maps["centres"][0], maps["boxes"][0], min_score=0.5)
    assert sorted(found[:, 0]) == [0, 2]
    for one in found:
        assert min(np.abs(one[2:] - w[1:]).max() for w in wanted[0] if w[0] == one[0]) < 1e-4


def test_suppression_keeps_the_surest_of_a_class() -> None:
    found = np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.8, 1, 1, 10, 10], [1, 0.7, 1, 1, 10, 10], [0, 0.6, 30, 30, 5, 5]])
    assert boxes.non_maximum_suppression(found)[:, 1].tolist() == pytest.approx([0.9, 0.7, 0.6])


def test_map_against_cocoeval(tmp_path: Path) -> None:
    """Our rows, accumulated, against COCO's own road: a results file, evaluate, accumulate, summarize."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    wanted = labels(40)
    maps = perfect(wanted, noise=0.35)
    scores = ObjectDetection().score(maps, wanted)
    truth = {
        "images": [{"id": i} for i in range(40)],
        "categories": [{"id": k} for k in range(3)],
        "annotations": [],
    }
    answers: list[dict[str, Any]] = []
    for i in range(40):
        for k, x, y, w, h in (b.tolist() for b in wanted[i] if b[0] >= 0):
            box = {"id": len(truth["annotations"]) + 1, "image_id": i, "category_id": int(k), "bbox": [x, y, w, h]}
            truth["annotations"].append({**box, "area": w * h, "iscrowd": 0})
        for k, s, *box in boxes.decode(maps["centres"][i], maps["boxes"][i]).tolist():
            answers.append({"image_id": i, "category_id": int(k), "bbox": box, "score": s})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0.05 < scores.value < 0.95
    assert scores.value == pytest.approx(evaluation.stats[0], abs=1e-6)


def test_perfect_maps_score_one_and_none_score_nothing() -> None:
    pytest.importorskip("pycocotools")
    wanted = labels(20)
    wanted[:, 1:] = -1  # one box each: two in one cell could not both be told
    maps = perfect(wanted)
    assert ObjectDetection().score(maps, wanted).value == pytest.approx(1)
    silent = {**maps, "centres": np.full_like(maps["centres"], -20)}
    assert ObjectDetection().score(silent, wanted).value == 0


def coco(folder: Path, box: list[float], category: int = 7) -> str:
    images, annotations = [], []
    for index in range(12):
        Image.new("RGB", (80, 40), (index, 0, 0)).save(folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "width": 80, "height": 40})
        annotations.append({"id": index + 1, "image_id": index, "category_id": category, "bbox": box})
    data = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "bird"}, {"id": 9, "name": "cat"}],
    }
    (folder / "annotations.json").write_text(json.dumps(data))
    return f"object-detection?data={folder}&size=64"


def test_a_coco_folder(tmp_path: Path) -> None:
    task = tasks.load(coco(tmp_path, [8, 4, 40, 20]))
    data = task.load("train")
    assert task.classes == ("bird", "cat") and len(data) == 10
    assert data.labels[0, 0].tolist() == pytest.approx([0, 6.4, 6.4, 32, 32])  # type: ignore[index]


@pytest.mark.parametrize("box", [[60, 4, 40, 20], [-9, 4, 20, 20], [1, 1, 0, 5]])
def test_a_box_outside_its_image_is_named(tmp_path: Path, box: list[float]) -> None:
    with pytest.raises(InputError, match=r"box 0 (lies outside the image|is empty)"):
        tasks.load(coco(tmp_path, box)).load("train")


def test_an_unknown_category_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the category 3"):
        tasks.load(coco(tmp_path, [8, 4, 10, 10], category=3)).load("train")


@pytest.mark.parametrize(
    ("side", "value"),
    [
        ("images", {"file_name": ""}),
        ("images", {"id": 1e400}),
        ("annotations", {"bbox": 3}),
    ],
)
def test_annotations_of_wrong_types(tmp_path: Path, side: str, value: dict[str, Any]) -> None:
    name = coco(tmp_path, [8, 4, 10, 10])
    data = json.loads((tmp_path / "annotations.json").read_text())
    data[side][0] |= value
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="not in COCO's format"):
        tasks.load(name).load("train")
    data["annotations"] = [3]
    (tmp_path / "annotations.json").write_text(json.dumps({**data, "images": []}))
    with pytest.raises(InputError, match="not in COCO's format"):
        tasks.load(name).load("train")


def test_no_json(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text("[")
    with pytest.raises(InputError, match="not in COCO's format"):
        tasks.load(f"object-detection?data={tmp_path}").load("train")


def test_the_loss_is_least_for_the_right_maps() -> None:
    torch = pytest.importorskip("torch")
    wanted = labels(4)
    maps = {name: torch.from_numpy(value) for name, value in perfect(wanted).items()}
    task, target = ObjectDetection(), torch.from_numpy(wanted)
    right = float(task.loss((maps["centres"], maps["boxes"]), target))
    assert right < float(task.loss((maps["centres"].flip(0), maps["boxes"]), target))
    assert right < float(task.loss((maps["centres"], maps["boxes"] + 1), target))


def test_the_network_gives_both_maps() -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    network = named.build("center-net", ObjectDetection().arguments("center-net"))
    centres, sizes = network(torch.zeros(2, 3, 64, 64))
    assert centres.shape == (2, 3, 16, 16) and sizes.shape == (2, 4, 16, 16)
