"""A data set in Ultralytics' YOLO layout: cut-outs on photographs, as the task object-detection composes them.

`data.yaml`, `images/{train,val,test}/*.png`, `labels/{train,val,test}/*.txt`. Every second picture is three quarters
as high as it is wide, so that a square network sees a letterbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from edgekit.tasks.shared import cutouts, downloads

SIZE = 96
COUNTS = {"train": 4000, "val": 500, "test": 1000}

Box = tuple[float, ...]


def cache() -> Path:
    """The folder that pictures, weights and runs are kept in."""
    folder = downloads.cache() / "detectors-benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(folder: Path) -> Path:
    """The data set in `folder`, written once; its `data.yaml`."""
    from PIL import Image

    yaml = folder / "data.yaml"
    if yaml.is_file():
        return yaml
    with mock.patch.object(cutouts, "SIZE", SIZE):
        cutouts._cutouts.cache_clear()
        for split, count in COUNTS.items():
            for side in ("images", "labels"):
                (folder / side / split).mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(cutouts.pictures(split, count)):
                pixels, boxes = picture.pixels.transpose(1, 2, 0), picture.boxes
                if number % 2:
                    pixels, boxes = _lower(pixels, boxes)
                Image.fromarray(pixels).save(folder / "images" / split / f"{number:05}.png")
                lines = [_line(box, pixels.shape) for box in boxes]
                (folder / "labels" / split / f"{number:05}.txt").write_text("".join(lines))
        cutouts._cutouts.cache_clear()
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(cutouts.CLASSES))
    splits = "".join(f"{split}: images/{split}\n" for split in COUNTS)
    yaml.write_text(f"path: {folder.resolve()}\n{splits}names:\n{names}")
    return yaml


def _lower(pixels: NDArray[np.uint8], boxes: Sequence[Box]) -> tuple[NDArray[np.uint8], list[Box]]:
    """The upper three quarters; a box keeps its part there, and is dropped if that is less than half."""
    height = SIZE * 3 // 4
    kept = [(k, x, y, w, min(h, height - y)) for k, x, y, w, h in boxes if min(h, height - y) * 2 >= h]
    return pixels[:height], kept


def _line(box: Box, shape: tuple[int, ...]) -> str:
    """`class centre_x centre_y width height`, as shares of the picture."""
    index, x, y, width, height = box
    rows, columns = shape[:2]
    values = ((x + width / 2) / columns, (y + height / 2) / rows, width / columns, height / rows)
    return f"{int(index)} " + " ".join(f"{value:.6f}" for value in values) + "\n"
