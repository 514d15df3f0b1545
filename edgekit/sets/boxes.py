"""Images with boxes, as a detector takes them; the labels are the boxes in pixels of its input.

A label is (n + 1, 6): class, x, y, width, height, and 1 for a crowd. The first row is the image's own area, of the
class AREA; rows of the class -1 fill up the array of all samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.sets import box_annotations
from edgekit.sets.box_annotations import Annotated
from edgekit.sets.images import ImageDecoder
from edgekit.sets.options import SetSpec
from edgekit.sets.reading import Item, UnreadableSample

AREA = -2.0


def are_boxes(labels: NDArray[Any] | None) -> bool:
    """Are these the labels of images with boxes (N, boxes + 1, 6)?"""
    if labels is None or labels.ndim != 3 or labels.shape[2] != 6 or labels.dtype.kind != "f" or not labels.size:
        return False
    return bool((labels[:, 0, 0] == AREA).all())


class BoxedImages:
    """Reads images with boxes. Raises InputError, Missing."""

    def __init__(self, path: Path, spec: SetSpec, model_inputs: Sequence[TensorSpec]) -> None:
        self._found = box_annotations.read(path)
        self._decode = ImageDecoder(str(path), spec.options, model_inputs)
        self.labelled = True
        self.splits = frozenset(image.split for image in self._found.images) - {""}
        self.count: int | None = len(self._found.images)
        self.classes = self._found.classes
        if spec.split and self.splits and spec.split not in self.splits:
            what = f"{path} has no split {spec.split!r}"
            raise InputError(what, f"it names {', '.join(sorted(self.splits))}", "name one of them")

    def described(self, data: SampleSet, split: str) -> SampleSet:
        """The set with its classes; a note if the images of the training are among them."""
        whole = not split and len(self.splits) > 1 and "train" in self.splits
        splits = ", ".join(sorted(self.splits))
        note = (f"no split is named, so all are read ({splits}): name one, such as :val",) if whole else ()
        return replace(data, classes=self.classes, notes=(*data.notes, *note))

    def __iter__(self) -> Iterator[Item]:
        for image in self._found.images:
            reader = _Image(image, self._decode)
            yield Item(
                str(image.path), image.path.name, None, reader.read, image.split, reader.read, target=reader.boxes
            )

    def decoded(self) -> Mapping[str, InputSignature]:
        return self._decode.decoded()

    def notes(self) -> tuple[str, ...]:
        return (*self._found.notes, *self._decode.notes())


class _Image:
    """One image and its boxes, which are placed where the decoder puts the image."""

    def __init__(self, image: Annotated, decode: ImageDecoder) -> None:
        self._image, self._decode = image, decode

    def read(self) -> Mapping[str, NDArray[Any]]:
        if not self._image.path.is_file():
            raise UnreadableSample("there is no such file")
        return {self._decode.input: self._decode(self._image.path, str(self._image.path))}

    def boxes(self) -> NDArray[np.float32]:
        """Raises UnreadableSample for an image that cannot be read, and for wrong boxes."""
        height, width = self._decode.size_of(self._image.path)
        try:
            boxes = self._image.boxes_in(height, width)
        except ValueError as error:
            raise UnreadableSample(str(error)) from error
        area = np.array([[AREA, 0, 0, width, height, 0]], np.float32)
        rows = np.concatenate([area, boxes])
        scale_y, scale_x, top, left = self._decode.placement(height, width)
        rows[:, 1:5] *= np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        rows[:, 1:3] += np.array([left, top], np.float32)
        return rows
