"""A task over the user's own data: `houses.csv`, a folder, shards; anything that is a SET by its path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import sets
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets import options, spool
from edgekit.sets.options import SPLITS
from edgekit.tasks.shared.base import Classification, Regression
from edgekit.tasks.shared.images import moved

#: the shipped networks, which take images
NETWORKS = ("cnn", "ds-cnn", "resnet8", "mobilenet-v1", "vit")


#: of a streamed set, so many images tell mean and spread
MEASURED = 1000


class DataTask(Task):
    """Splits are what the data says, else drawn 80/10/10 by sample. Labels that are classes make a classification
    (top-1), values a regression (R²).

    `word` is a SET without a split. Raises InputError where the data is not there, or has no labels.
    """

    licences: tuple[str, ...] = ()

    def __init__(self, word: str) -> None:
        self.name = word
        self._word = options.parse_set_spec(word)

    @cached_property
    def models(self) -> tuple[str, ...]:  # type: ignore[override]
        return NETWORKS if sets.has_images(self._word) else ()

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        labels = sets.labels(self.name)
        if labels is None:
            how = "put them into one folder per class" if Path(self._word.path).is_dir() else "name them: ?label=COLUMN"
            raise InputError(f"{self.name} has no labels", "nothing can be learnt from it", how)
        if (found := labels.classes) and len(found) < 2:
            raise InputError(f"{self.name} holds one class only", repr(found[0]), "give it a second one")
        return found

    @cached_property
    def _family(self) -> Classification | Regression:
        return Classification() if self.classes else Regression()

    def load(self, split: str) -> SampleSet:
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        return sets.read(f"{self.name}:{split}", options.parse_set_spec(f"{self.name}:{split}"))

    def arguments(self, model: str) -> Mapping[str, Any]:
        """For the shipped networks shape, classes, mean and std over the training split; nothing for others.

        Raises InputError where the network does not take such data.
        """
        classes = self.classes
        if model not in NETWORKS:
            return {}
        (images,) = self.load("train").inputs.values()
        if images.ndim != 4 or not classes:
            what = f"the network {model!r} tells classes of images (channels, height, width) apart"
            found = f"samples of {self.name} are {list(images.shape[1:])}" if classes else "its labels are values"
            raise InputError(what, found, "name a network of your own: --model net.py:Net")
        mean, std = _moments(images.spread(MEASURED) if hasattr(images, "spread") else images)
        return {"shape": list(images.shape[1:]), "classes": len(classes), "mean": mean, "std": std}

    augments = False

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """Images moved and mirrored. Raises InputError for other data."""
        if not sets.has_images(self._word) and not all(value.ndim == 4 for value in inputs.values()):
            raise InputError(f"{self.name} has no augmentation", "it holds no images", "leave augment out")
        return {name: moved(x, generator, mirror=True) for name, x in inputs.items()}, labels

    def loss(self, outputs: Any, labels: Any) -> Any:
        return self._family.loss(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        return self._family.score(outputs, labels)


def _moments(images: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of (N, C, H, W), to four digits; a channel of one value gets 1."""
    total = np.zeros(images.shape[1])
    squares = np.zeros(images.shape[1])
    for chunk in spool.chunks(images):
        values = chunk.astype(np.float64)
        total += values.sum(axis=(0, 2, 3))
        squares += (values**2).sum(axis=(0, 2, 3))
    count = images.size / images.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return [float(f"{m:.4g}") for m in mean], [float(f"{s:.4g}") or 1.0 for s in std]
