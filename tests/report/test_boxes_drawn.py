"""A picture with boxes: drawn where they are, beside what is there already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.report import boxes_drawn

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

BOX = {"class": "cat", "score": 0.9, "box": [20.0, 30.0, 40.0, 20.0]}


def test_the_frame_is_where_the_box_is(tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    path = boxes_drawn.draw(tmp_path / "a.png", [BOX], tmp_path / "out")
    assert path == tmp_path / "out" / "a.png"
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (80, 100, 3) and pixels[50, 40].any() and not pixels[45, 40].any()
    assert pixels[40, 20].any() and pixels[40, 60].any() and not pixels[60:].any()
    assert boxes_drawn.draw(tmp_path / "a.png", [], tmp_path / "out").name == "a-2.png", "nothing is replaced"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        boxes_drawn.draw(tmp_path / "a.png", [BOX], tmp_path / "out")
