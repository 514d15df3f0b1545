"""A detector with SiLU (YOLOv8n at 320 x 320, 18 classes, trained), as an ONNX file that the package `nudenet` brings.

Nobody has labelled these photos for it, so the labels are what the float network finds: the cells whose best class has
a score above 0.25. A photo counts for the share of the cells, found by either, on which both agree.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from data import cache
from numpy.typing import NDArray
from photos import SPLITS, _files

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared.images import shuffled

SIZE, SURE = 320, 0.25
SAMPLES = {"train": 100, "val": 200, "test": 500}


class Boxes(Task):
    """Photos (N, 3, 320, 320) float32, 0 to 1 → (N, 22, 2100): four of a box and 18 scores of each cell.

    Labels (N, 2100) are classes; -1: nothing found.
    """

    name = "boxes"
    models = ()
    classes: tuple[str, ...] = ()
    licences = ("ImageNet (research)", "nudenet (AGPL 3.0)")

    def load(self, split: str) -> SampleSet:
        """Raises InputError where data or network are missing."""
        if split not in SAMPLES:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SAMPLES)}")
        files = _files()
        chosen = shuffled(len(files))[SPLITS[split]][: SAMPLES[split]]
        photos = np.stack([_photo(files[index]) for index in chosen])
        return sample_set(f"{self.name}:{split}", {"images": photos}, _labels(photos, split))

    def loss(self, outputs: Any, labels: Any) -> Any:
        raise InputError("the detector is not trained here")

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        found = decided(next(iter(outputs.values())))
        either = ((found >= 0) | (labels >= 0)).sum(axis=1)
        both = ((found == labels) & (labels >= 0)).sum(axis=1)
        return Scores("agreement of cells", "fraction", True, np.where(either, both / np.maximum(either, 1), 1.0))


def decided(output: NDArray[Any]) -> NDArray[np.int64]:
    """The class of each cell (N, 2100), -1 below the threshold."""
    scores = output[:, 4:]
    return np.where(scores.max(axis=1) > SURE, scores.argmax(axis=1), -1)


def _photo(path: Path) -> NDArray[np.float32]:
    """(3, 320, 320): scaled to fit, and black beside it."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        fitted = ImageOps.pad(image.convert("RGB"), (SIZE, SIZE))
    return np.asarray(fitted, np.float32).transpose(2, 0, 1) / 255


def _labels(photos: NDArray[np.float32], split: str) -> NDArray[np.int64]:
    """Computed once per split, then read from the cache."""
    import onnxruntime

    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = cache() / "quantize-benchmark" / f"boxes-{split}-{version}.npy"
    if not path.is_file():
        session = onnxruntime.InferenceSession(yolo())
        parts = [session.run(None, {"images": photo[None]})[0] for photo in photos]
        np.save(path, decided(np.concatenate(parts)))
    return np.load(path)


def yolo() -> str:
    """The network's file, with a fixed size. Raises InputError where `nudenet` is not installed."""
    import onnx
    from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed

    found = importlib.util.find_spec("nudenet")
    if found is None or found.origin is None:
        raise InputError("nudenet is not installed", next="pip install --no-deps nudenet")
    path = cache() / "quantize-benchmark" / "yolov8n-320.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        model = onnx.load(Path(found.origin).with_name("320n.onnx"))
        make_input_shape_fixed(model.graph, "images", [1, 3, SIZE, SIZE])
        onnx.save(model, path)
    return str(path)
