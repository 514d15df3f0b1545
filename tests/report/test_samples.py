"""Pictures of predictions: well-formed, with what they show written below."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from edgekit.report import samples

pytest.importorskip("PIL")
SVG = "{http://www.w3.org/2000/svg}"
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8)).astype(np.uint8)
CLASSES = ("cat", "dog & co")


def pictures() -> dict[str, str]:
    labels = np.array([0, 0, 1, 1, 1])
    masks = np.arange(5 * 64).reshape(5, 8, 8) % 3
    box = np.array([[1, 0.9, 1, 1, 4, 4.0]])
    return {
        "confusion": samples.confusion(labels, np.array([0, 1, 1, 1, 0]), CLASSES),
        "boxes": samples.boxes(IMAGES, [box[:, [0, 2, 3, 4, 5]]] * 5, [box] * 5, CLASSES),
        "masks": samples.masks(IMAGES, masks, masks, ("nothing", *CLASSES)),
        "features": samples.features(np.ones((5, 6, 4)), ["cat: <dog>"] * 5),
    }


@pytest.mark.parametrize("kind", ["confusion", "boxes", "masks", "features"])
def test_its_title_stands_below_the_picture(kind: str) -> None:
    root = ElementTree.fromstring(pictures()[kind])
    title = root.findtext(f"{SVG}title")
    texts = {text.text: float(text.get("y", 0)) for text in root.iter(f"{SVG}text")}
    assert title and max(texts, key=lambda text: texts[text]) == title
    assert texts[title] <= float(root.get("height", 0))


def test_a_confusion_matrix_is_in_per_cent_of_its_rows() -> None:
    root = ElementTree.fromstring(pictures()["confusion"])
    numbers = [text.text for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "middle"]
    assert numbers == ["50", "50", "33", "67"]


def test_names_are_escaped() -> None:
    assert "dog &amp; co" in pictures()["boxes"] and "&lt;dog&gt;" in pictures()["features"]
