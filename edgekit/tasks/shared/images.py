"""The base of the built-in image classification tasks: the networks' arguments, and fixed splits."""

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
    """Images (N, C, H, W) uint8 → logits (N, classes). A subclass supplies the images."""

    models: tuple[str, ...] = ("cnn", "ds-cnn")
    #: (C, H, W)
    shape: tuple[int, int, int]
    #: per channel, in raw units (0 to 255), over the training split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: split → (first, last + 1) over the samples in their recorded order
    splits: ClassVar[Mapping[str, tuple[int, int]]]
    #: whether a horizontal flip keeps the class: true of a shoe, false of a digit
    mirrored: ClassVar[bool] = False
    #: augmentation is off by default
    augments = False

    def samples(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All images and labels in the recorded order."""
        raise NotImplementedError

    def load(self, split: str) -> SampleSet:
        """One split. Raises InputError if there is no such split, or the data is not available."""
        if split not in self.splits:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(self.splits)}")
        images, labels = self.samples()
        first, last = self.splits[split]
        return sample_set(f"{self.name}:{split}", {"input": images[first:last]}, labels[first:last])

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """See `random_shift`."""
        return {"input": random_shift(inputs["input"], generator, self.mirrored)}, labels

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {
            "shape": list(self.shape),
            "classes": len(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
        }


def random_shift(x: Any, generator: Any, mirror: bool) -> Any:
    """Images (N, C, H, W), each shifted by up to a tenth of its sides with edge padding; with `mirror`, each is
    flipped horizontally with probability 0.5.
    """
    import torch

    count, _, height, width = x.shape

    def shifted_indices(side: int) -> Any:
        limit = side // 10
        shift = torch.randint(-limit, limit + 1, (count, 1), generator=generator)
        return (torch.arange(side) + shift).clamp(0, side - 1)

    rows, columns = shifted_indices(height), shifted_indices(width)
    if mirror:
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    rows, columns = rows[:, None, :, None].to(x.device), columns[:, None, None, :].to(x.device)
    samples = torch.arange(count, device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return x[samples, channels, rows, columns]


def shuffled(count: int) -> NDArray[np.int64]:
    """A fixed order of `count` samples, by sha256 of the index, so that no library version can change it."""
    return np.array(sorted(range(count), key=lambda i: hashlib.sha256(str(i).encode()).digest()), dtype=np.int64)
