"""A task learnt in a second: a bright bar at the top, bottom, left or right of a noisy 20 x 20 image.

Transposing an image turns its class into another, so a model whose axes were swapped cannot hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.tasks.shared.images import ImageClassification

SIDE = 20


class Bars(ImageClassification):
    name = "bars"
    classes = ("top", "bottom", "left", "right")
    licences = ("made up",)
    shape = (1, SIDE, SIDE)
    mean = (80.0,)
    std = (50.0,)
    splits: ClassVar = {"train": (0, 512), "val": (512, 812), "test": (812, 1112)}

    def samples(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        rng = np.random.default_rng(7)
        count = max(last for _, last in self.splits.values())
        labels = rng.integers(4, size=count)
        images = rng.integers(0, 120, size=(count, 1, SIDE, SIDE))
        for image, label in zip(images[:, 0], labels, strict=True):
            at = int(rng.integers(1, 6))
            row = at if label % 2 == 0 else SIDE - 1 - at
            view = image if label < 2 else image.T
            view[row] += 110
        return images.astype(np.uint8), labels.astype(np.int64)

    def arguments(self, model: str) -> Mapping[str, Any]:
        widths = {"cnn": [8, 8, 8, 16], "ds-cnn": [8, 8, 8, 16, 16]}.get(model, [])
        return {**super().arguments(model), "widths": widths}
