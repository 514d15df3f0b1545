"""The images that are stored of a detector's set: their pixels, and boxes as shares of the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from squares_detector import SIDE, SQUARES, WIDE, coco, detector, save

from edgekit.core.artifact import TensorSpec
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.measure import sample_boxes
from edgekit.runs import named_sets

pytest.importorskip("pycocotools")
pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def test_a_letterbox_is_cut_off_and_its_normalization_undone(tmp_path: Path) -> None:
    inputs = detector()
    data = named_sets.load(str(coco(tmp_path / "data")), inputs)
    artifact: Any = SimpleNamespace(inputs=inputs)
    pixels = sample_boxes.image(artifact, data, WIDE)
    assert pixels is not None and pixels.shape == (SIDE // 2, SIDE, 3)
    ((index, column, row),) = SQUARES[WIDE]
    assert pixels[row * 8 + 3, column * 8 + 3].tolist() == [0, 255, 0] and pixels[-1, 0].tolist() == [40, 40, 40]
    (box,) = sample_boxes.true_boxes(artifact, data, WIDE, ("red", "green"))
    assert box == {"name": ("red", "green")[index], "box": [column / 4, row / 2, 0.25, 0.5]}
    found = np.float32([[1, 0.2, 0, 8, 8, 8], [0, 0.3, 0, 8, 8, 8], [7, 0.9, 8, 8, 16, 16]])
    predicted = sample_boxes.predicted_boxes(artifact, data, found, WIDE, ("red", "green"))
    assert [(b["name"], b["score"]) for b in predicted] == [("7", 0.9), ("red", 0.3)], "weak ones are not shown"
    assert predicted[0]["box"] == [0.25, 0, 0.5, 1]


def test_the_images_are_those_with_boxes(tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), detector())
    assert data.labels is not None
    assert sample_boxes.chosen(data.labels) == [n for n, squares in enumerate(SQUARES) if squares]
    assert len(sample_boxes.chosen(np.tile(data.labels, (9, 1, 1)))) == sample_boxes.COUNT
    assert sample_boxes.chosen(np.full((3, 1, 5), -1.0)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("signature", "shape", "expected"),
    [
        (InputSignature("image", layout="NHWC", colour="BGR"), (1, 400, 300, 3), (134, 100, 3)),
        (InputSignature("image", layout="NCHW", mean=(0.5,), std=(0.25,), scale=1 / 255), (1, 3, 40, 50), (40, 50, 3)),
        (InputSignature("image", layout="NHW"), (1, 40, 50), (40, 50)),
        (None, (1, 3, 40, 50), (40, 50, 3)),
        (None, (1, 7), None),
    ],
)
def test_pixels_of_every_layout(signature: Any, shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    spec = TensorSpec("x", "float32", shape, signature=signature)
    values = np.full(shape, 100.0, np.float32)
    if signature is not None and signature.mean:
        values = (values / 255 - 0.5) / 0.25
    data = SampleSet("", {"x": values}, np.full((1, 1, 5), -1.0), "")
    pixels = sample_boxes.image(SimpleNamespace(inputs=(spec,)), data, 0)  # type: ignore[arg-type]
    if expected is None:
        assert pixels is None
    else:
        assert pixels is not None and pixels.shape == expected and (pixels == 100).all()


def test_from_bench_to_the_page(tmp_path: Path, cli: Callable[..., Any]) -> None:
    save(tmp_path / "squares.onnx", named=True)
    coco(tmp_path / "data")
    ended = cli("bench", "squares.onnx", "--data", "data", "--quick", "--processes", "1")
    assert ended.code == 0, ended.err
    (answers,) = tmp_path.glob("runs/squares/onnx/answers-*.json")
    stored = json.loads(answers.read_text())
    assert stored["by_class"]["classes"] == ["red", "green"]
    assert stored["by_class"]["values"] == {"AP": [1, 1], "AP50": [1, 1], "boxes": [4, 3]}
    (samples,) = tmp_path.glob("runs/squares/samples-*.json")
    assert samples.stat().st_size < 6 * 110_000
    for true, answer in zip(json.loads(samples.read_text())["samples"], stored["answers"], strict=True):
        boxes = (np.array(sorted(box["box"] for box in each["boxes"])) for each in (true, answer))
        np.testing.assert_allclose(*boxes)
    ended = cli("compare", "runs/squares", "--html", "a.html")
    assert ended.code == 0, ended.err
    page = (tmp_path / "a.html").read_text()
    assert "Metric by class" in page and "Boxes in test images" in page and page.count("data:image/png") >= 5
