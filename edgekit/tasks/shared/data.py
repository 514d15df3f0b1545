"""A task over the user's own data: `houses.csv`, a folder, shards; any SET that is a path."""

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
from edgekit.sets import box_annotations, memmap, options
from edgekit.sets.options import SPLITS
from edgekit.tasks.shared.base import Classification, Regression
from edgekit.tasks.shared.images import random_shift

#: the built-in networks that take images, and those that take rows of values
NETWORKS = ("cnn", "ds-cnn", "resnet8", "mobilenet-v1", "vit")
ROW_NETWORKS = ("mlp",)

#: the number of images that mean and standard deviation of a streamed set are computed from
STATISTICS_SAMPLES = 1000


class DataTask(Task):
    """Splits are those of the data, else a random 80/10/10 split. Class labels make it a classification (top-1),
    continuous labels a regression (R²).

    `spec` is a SET without a split. Raises InputError if the data does not exist, or has no labels.
    """

    licences: tuple[str, ...] = ()

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._spec = options.parse_set_spec(spec)

    @cached_property
    def models(self) -> tuple[str, ...]:  # type: ignore[override]
        return NETWORKS if sets.has_images(self._spec) or self._rank() == 4 else ()

    @cached_property
    def fallback(self) -> str:  # type: ignore[override]
        """A perceptron for tables and for arrays of rows."""
        return ROW_NETWORKS[0] if sets.is_table(self._spec) or self._rank() in (2, 3) else ""

    def _rank(self) -> int:
        """The number of axes of the only array in a `.npz`, 0 for other data."""
        if not self._spec.path.lower().endswith(".npz"):
            return 0
        arrays = list(self.load("train").inputs.values())
        return arrays[0].ndim if len(arrays) == 1 else 0

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if box_annotations.are_at(Path(self._spec.path)):
            why = "train takes classes and values; boxes are trained by the task object-detection"
            raise InputError(f"{self.name} holds boxes", why, "edgekit train 'object-detection?data=FOLDER'")
        labels = sets.labels(self.name)
        if labels is None:
            advice = (
                "put them into one folder per class" if Path(self._spec.path).is_dir() else "name them: ?label=COLUMN"
            )
            raise InputError(f"{self.name} has no labels", "training needs labels", advice)
        if (classes := labels.classes) and len(classes) < 2:
            raise InputError(f"{self.name} holds one class only", repr(classes[0]), "add a second class")
        return classes

    @cached_property
    def _base_task(self) -> Classification | Regression:
        return Classification() if self.classes else Regression()

    def load(self, split: str) -> SampleSet:
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        return sets.read(f"{self.name}:{split}", options.parse_set_spec(f"{self.name}:{split}"))

    def arguments(self, model: str) -> Mapping[str, Any]:
        """For the built-in networks shape, classes or outputs, mean and std over the training split; nothing for
        others.

        Raises InputError if the network does not take such data.
        """
        classes = self.classes
        if model in ROW_NETWORKS:
            return self._row_arguments(model)
        if model not in NETWORKS:
            return {}
        (images,) = self.load("train").inputs.values()
        if images.ndim != 4 or not classes:
            what = f"the network {model!r} classifies images (channels, height, width)"
            shape = f"samples of {self.name} are {list(images.shape[1:])}"
            why = shape if classes else f"the labels of {self.name} are continuous values"
            raise InputError(what, why, "name a network of your own: --model net.py:Net")
        mean, std = _mean_and_std(images.spread(STATISTICS_SAMPLES) if hasattr(images, "spread") else images)
        return {"shape": list(images.shape[1:]), "classes": len(classes), "mean": mean, "std": std}

    def _row_arguments(self, model: str) -> Mapping[str, Any]:
        data = self.load("train")
        if len(data.inputs) > 1:
            why = f"the columns of {self.name} make {len(data.inputs)}: {', '.join(data.inputs)}"
            raise InputError(f"the network {model!r} takes one input", why, "choose some with ?columns=a,b")
        ((name, rows),) = data.inputs.items()
        if rows.dtype.kind not in "fiu":
            raise InputError(f"the network {model!r} takes numbers", f"{name} of {self.name} is {rows.dtype}")
        mean, std = _moments(rows.reshape(len(rows), -1))
        arguments = {"shape": list(rows.shape[1:]), "mean": mean, "std": std}
        if self.classes:
            return {**arguments, "outputs": len(self.classes)}
        assert data.labels is not None
        label_mean, label_std = _moments(np.asarray(data.labels).reshape(len(rows), -1))
        return {**arguments, "outputs": len(label_mean), "label_mean": label_mean, "label_std": label_std}

    augments = False

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """Images shifted and flipped at random. Raises InputError for other data."""
        if not sets.has_images(self._spec) and not all(value.ndim == 4 for value in inputs.values()):
            raise InputError(f"{self.name} has no augmentation", "it holds no images", "leave out augment")
        return {name: random_shift(x, generator, mirror=True) for name, x in inputs.items()}, labels

    def loss(self, outputs: Any, labels: Any) -> Any:
        return self._base_task.loss(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        return self._base_task.score(outputs, labels)


def _mean_and_std(images: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of (N, C, H, W), to four digits; a constant channel gets 1."""
    mean, std = _sums(images, (0, 2, 3))
    return [float(f"{m:.4g}") for m in mean], [float(f"{s:.4g}") or 1.0 for s in std]


def _moments(rows: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per column of (N, columns); a constant column gets 1."""
    mean, std = _sums(rows, (0,))
    return [float(m) for m in mean], [float(s) if s > 1e-6 * abs(m) else 1.0 for m, s in zip(mean, std, strict=True)]


def _sums(values: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over these axes, in two passes: a large mean does not drown a small spread."""
    count = values.size / values.shape[1]
    shape = [1 if axis in axes else size for axis, size in enumerate(values.shape)]
    mean = sum(chunk.astype(np.float64).sum(axis=axes) for chunk in memmap.chunks(values)) / count
    centre = np.reshape(mean, shape)
    squares = sum(((chunk.astype(np.float64) - centre) ** 2).sum(axis=axes) for chunk in memmap.chunks(values))
    return np.asarray(mean), np.sqrt(squares / count)
