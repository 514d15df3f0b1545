"""What the shipped image classification tasks share: the networks' arguments, and fixed splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared.base import Classification


class ImageClassification(Classification):
    """Images (N, C, H, W) uint8 → logits (N, classes). A task of this family says where its images come from."""

    models: tuple[str, ...] = ("cnn", "ds-cnn")
    #: (C, H, W)
    shape: tuple[int, int, int]
    #: per channel, in raw units (0 to 255), over the training split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: split → (first, last + 1) over the samples in their recorded order
    splits: ClassVar[Mapping[str, tuple[int, int]]]
    #: does what is mirrored show the same thing? A digit does not, a shoe does
    mirrored: ClassVar[bool] = False
    #: only where it is asked for
    augments = False

    def samples(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All images and labels in the recorded order."""
        raise NotImplementedError

    def load(self, split: str) -> SampleSet:
        """One split. Raises InputError where there is no such split, or the data is not to be had."""
        if split not in self.splits:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(self.splits)}")
        images, labels = self.samples()
        first, last = self.splits[split]
        return sample_set(f"{self.name}:{split}", {"input": images[first:last]}, labels[first:last])

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """See `moved`."""
        return {"input": moved(inputs["input"], generator, self.mirrored)}, labels

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {
            "shape": list(self.shape),
            "classes": len(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
        }


def moved(x: Any, generator: Any, mirror: bool) -> Any:
    """(N, C, H, W), each image moved by up to a tenth of its sides, its edge drawn out; with `mirror` every other one
    is mirrored left to right.
    """
    import torch

    count, _, height, width = x.shape

    def places(side: int) -> Any:
        most = side // 10
        by = torch.randint(-most, most + 1, (count, 1), generator=generator)
        return (torch.arange(side) + by).clamp(0, side - 1)

    rows, columns = places(height), places(width)
    if mirror:
        flip = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flip, columns.flip(1), columns)
    rows, columns = rows[:, None, :, None].to(x.device), columns[:, None, None, :].to(x.device)
    samples = torch.arange(count, device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return x[samples, channels, rows, columns]


def shuffled(count: int) -> NDArray[np.int64]:
    """A fixed order of `count` samples that no library version can change: by sha256 of the index."""
    return np.array(sorted(range(count), key=lambda i: hashlib.sha256(str(i).encode()).digest()), dtype=np.int64)
