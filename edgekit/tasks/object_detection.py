"""Object detection: photographed animals, food and plants on photographs; or any folder with COCO's JSON."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.ondevice import boxes
from edgekit.ondevice.preprocess import image_size
from edgekit.sets import box_annotations, reading
from edgekit.sets.options import SPLITS
from edgekit.tasks.shared import cutouts
from edgekit.tasks.shared.boxes import centre_maps, mean_average_precision
from edgekit.tasks.shared.cutouts import CLASSES, LICENCES, SIZE
from edgekit.tasks.shared.dense import MEAN, STD, image_of, random_flip_and_gain
from edgekit.tasks.shared.images import shuffled

#: the most boxes of an image in the user's data
MAX_BOXES = 64


class ObjectDetection(Task):
    """Images (N, 3, H, W) uint8 → centres and boxes (see the network); labels (N, M, 5): class (-1: none), x, y, w, h.

    `boxes.py`, stored with the artifact, finds the peaks and applies non-maximum suppression outside the network.
    """

    name = "object-detection"
    models = ("center-net",)

    @dataclass(frozen=True)
    class Options:
        """`data`: a folder with `annotations.json` in COCO's format and its images; resized to `size` pixels."""

        data: str = ""
        size: int = 64

        def problems(self) -> Iterator[str]:
            if self.size < 32 or self.size % 16:
                yield "size must be a multiple of 16, and at least 32"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self._options.data else LICENCES

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(CLASSES) if not self._options.data else self._coco.classes

    @cached_property
    def _coco(self) -> _Coco:
        return _Coco(Path(self._options.data))

    def arguments(self, model: str) -> Mapping[str, Any]:
        size = self._options.size if self._options.data else SIZE
        return {"shape": [3, size, size], "classes": len(self.classes), "mean": list(MEAN), "std": list(STD)}

    def load(self, split: str) -> SampleSet:
        """Raises InputError: no such split, no data, or invalid annotations."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        if self._options.data:
            images, boxes_by_image = self._coco.load(split, self._options.size)
        else:
            pictures = cutouts.pictures(split)
            images, boxes_by_image = np.stack([p.pixels for p in pictures]), [list(p.boxes) for p in pictures]
        labels = np.full((len(boxes_by_image), max(1, *map(len, boxes_by_image)), 5), -1, np.float32)
        for index, image_boxes in enumerate(boxes_by_image):
            if image_boxes:
                labels[index, : len(image_boxes)] = image_boxes
        return reading.sample_set(f"{self.name}:{split}", {"input": images}, labels)

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """See `random_flip_and_gain`; the labels are flipped with the images."""
        import torch

        x, flip = random_flip_and_gain(inputs["input"], generator)
        mirrored = labels.clone()
        mirrored[..., 1] = x.shape[3] - labels[..., 1] - labels[..., 3]
        return {"input": x}, torch.where(flip[:, None, None], mirrored, labels)

    def loss(self, outputs: Any, labels: Any) -> Any:
        """CenterNet's loss: focal loss over the heatmap, and the L1 error of offsets and sizes at the centres."""
        import torch
        from torch.nn.functional import logsigmoid

        centres, sizes = outputs.values() if isinstance(outputs, Mapping) else outputs
        heat, targets, mask = centre_maps(labels, *centres.shape[1:])
        p, count = torch.sigmoid(centres), mask.sum().clamp(min=1)
        positive_loss = -((1 - p) ** 2) * logsigmoid(centres) * (heat == 1)
        negative_loss = -(p**2) * logsigmoid(-centres) * (1 - heat) ** 4 * (heat < 1)
        error = ((sizes - targets).abs().mean(dim=1) * mask).sum()
        return (positive_loss.sum() + negative_loss.sum() + 0.5 * error) / count

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """COCO's mAP@[.5:.95], by pycocotools."""
        centres, sizes = list(outputs.values())[:2]
        if centres.shape[1] == 4 and sizes.shape[1] == len(self.classes) != 4:
            centres, sizes = sizes, centres
        boxes_by_image = [boxes.decode(c, s) for c, s in zip(centres, sizes, strict=True)]
        return mean_average_precision(boxes_by_image, labels, len(self.classes))

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        """Store the code that decodes boxes with the model."""
        shutil.copyfile(boxes.__file__, folder / "boxes.py")


class _Coco:
    """`annotations.json` and the images it names (https://cocodataset.org/#format-data); crowds are left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found = box_annotations.coco(root / "annotations.json")
        self.classes = self._found.classes

    def load(self, split: str, size: int) -> tuple[NDArray[np.uint8], list[list[tuple[float, ...]]]]:
        """The images of a fixed random 80/10/10 split, and their boxes in pixels of the resized images."""
        count = len(self._found.images)
        if count < 10:
            raise InputError(f"{self.root} holds {count} images", "a split needs at least ten", "add images")
        order, tenth = shuffled(count), count // 10
        shares = {"test": order[:tenth], "val": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
        images, boxes_by_image = [], []
        for number in shares[split]:
            image = self._found.images[number]
            images.append(image_of(image.path, size))
            height, width = image_size(str(image.path), {})
            try:
                boxes = image.boxes_in(height, width)
            except ValueError as error:
                raise InputError(f"{image.path}: {error}", next="a box is x, y, width, height in pixels") from error
            scale = np.array([1, size / width, size / height, size / width, size / height], np.float32)
            boxes_by_image.append([tuple(map(float, box[:5] * scale)) for box in boxes if not box[5]][:MAX_BOXES])
        return np.stack(images), boxes_by_image
