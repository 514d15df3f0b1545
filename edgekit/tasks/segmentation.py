"""Semantic segmentation: photographed animals, food and plants on photographs; or any images with masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, os_errors
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets import reading
from edgekit.sets.masks import CLASSES as CLASSES_FILE
from edgekit.sets.masks import IGNORED, class_names, indices
from edgekit.sets.options import SPLITS
from edgekit.sets.reading import UnreadableSample
from edgekit.tasks.shared import cutouts
from edgekit.tasks.shared.cutouts import CLASSES, LICENCES, SIZE
from edgekit.tasks.shared.dense import MEAN, STD, image_of, random_flip_and_gain, split_files
from edgekit.tasks.shared.masks import miou


class Segmentation(Task):
    """Images (N, 3, H, W) uint8 → logits (N, classes, H, W); labels (N, H, W) are classes, 255 is ignored."""

    name = "segmentation"
    models = ("unet", "fcn")

    @dataclass(frozen=True)
    class Options:
        """`data`: a folder with `images/` and `masks/` (optionally in `train/`, `val/`, `test/`), and `classes.txt`.

        Masks are PNG files with the images' names; a pixel is a line index in `classes.txt`. All are resized to `size`
        pixels.
        """

        data: str = ""
        size: int = 64

        def problems(self) -> Iterator[str]:
            if self.size < 16 or self.size % 16:
                yield "size must be a multiple of 16"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if not self._options.data:
            return ("background", *CLASSES)
        path = Path(self._options.data, CLASSES_FILE)
        if len(names := class_names(path)) < 2:
            raise InputError(f"{path} names {len(names)} classes", next="write one name per line, the background first")
        return names

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self._options.data else LICENCES

    def arguments(self, model: str) -> Mapping[str, Any]:
        size = self._options.size if self._options.data else SIZE
        return {"shape": [3, size, size], "classes": len(self.classes), "mean": list(MEAN), "std": list(STD)}

    def load(self, split: str) -> SampleSet:
        """Raises InputError: no such split, no data, a mask that is missing or holds an unknown class."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        if self._options.data:
            return self._user_data(split)
        pictures = cutouts.pictures(split)
        images, masks = np.stack([p.pixels for p in pictures]), np.stack([p.mask for p in pictures])
        return reading.sample_set(f"{self.name}:{split}", {"input": images}, masks)

    def _user_data(self, split: str) -> SampleSet:
        files = split_files(Path(self._options.data), "images", split)
        images = np.stack([image_of(file, self._options.size) for file in files])
        masks = np.stack([self._mask(file) for file in files])
        return reading.sample_set(f"{self.name}:{split}", {"input": images}, masks)

    def _mask(self, image: Path) -> NDArray[np.uint8]:
        """(size, size) classes of an image's pixels."""
        from PIL import Image

        path = image.parent.parent / "masks" / f"{image.stem}.png"
        with os_errors("read", path):
            path.stat()
        try:
            mask = indices(path)
        except UnreadableSample as error:
            raise InputError(f"cannot read the mask of {image}", str(error), "fix or remove it") from error
        unknown = sorted({int(v) for v in np.unique(mask)} - {*range(len(self.classes)), IGNORED})
        if unknown:
            why = f"it holds {', '.join(map(str, unknown[:5]))}; the {len(self.classes)} classes start at 0"
            raise InputError(f"{path} holds unknown classes", why, "name them in classes.txt, or write 255")
        resized = Image.fromarray(mask).resize((self._options.size,) * 2, Image.Resampling.NEAREST)
        return np.asarray(resized, np.uint8)

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """See `random_flip_and_gain`; the masks are flipped with the images."""
        import torch

        x, flip = random_flip_and_gain(inputs["input"], generator)
        return {"input": x}, torch.where(flip[:, None, None], labels.flip(2), labels)

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean cross-entropy over pixels; the background has a weight of 1/3."""
        import torch
        from torch.nn.functional import cross_entropy

        from edgekit.networks.outputs import first_output

        outputs = first_output(outputs)
        weight = torch.ones(outputs.shape[1], device=outputs.device)
        weight[0] = 1 / 3
        return cross_entropy(outputs, labels, weight, ignore_index=IGNORED)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """See `miou`."""
        values = next(iter(outputs.values()))
        return miou(values.argmax(axis=1), labels, values.shape[1])
