"""Sensor series classification: speakers (JapaneseVowels), motions of a watch (BasicMotions), or any `.ts` files.

Both sets come from the wheel of `sktime`, with the archive's own test split.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, os_errors
from edgekit.core.samples import SampleSet
from edgekit.sets import reading
from edgekit.sets.options import SPLITS
from edgekit.tasks.shared import downloads
from edgekit.tasks.shared.base import Classification
from edgekit.tasks.shared.images import shuffled
from edgekit.tasks.shared.scaling import Scaling
from edgekit.tasks.shared.series import equal_length, parse_ts

CARRIER = ("sktime", "1.2.0")
SHIPPED = ("JapaneseVowels", "BasicMotions")
#: one in so many training series is for validation
VALIDATION = 5


class SensorSeries(Classification):
    """Series (N, time, channels), standardized → logits (N, classes)."""

    name = "sensor-series"
    models = ("cnn1d", "lstm", "mlp", "softmax-regression")

    @dataclass(frozen=True)
    class Options:
        """`data`: JapaneseVowels, BasicMotions, or the path of `NAME_TRAIN.ts`, with `NAME_TEST.ts` in the same folder.

        `length`: the time steps of the network's input (0: as many as the longest training series).
        """

        data: str = "JapaneseVowels"
        length: int = 0

        def problems(self) -> Iterator[str]:
            if self.length < 0:
                yield "length must be 0 (the longest training series) or more"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"{self._options.data}, UEA archive (as in sktime, BSD-3-Clause)",) if self._shipped else ()

    @property
    def _shipped(self) -> bool:
        return self._options.data in SHIPPED

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._half("TRAIN")[2]

    def _half(self, half: str) -> tuple[list[NDArray[np.float32]], list[str], tuple[str, ...]]:
        name = self._options.data
        if self._shipped:
            with zipfile.ZipFile(downloads.wheel(*CARRIER)) as archive:
                text = archive.read(f"sktime/datasets/data/{name}/{name}_{half}.ts").decode("utf-8", "replace")
            return parse_ts(text, f"{name}_{half}.ts")
        path = Path(name)
        if not path.name.endswith("_TRAIN.ts"):
            known = f"data is one of {', '.join(SHIPPED)}, or a file NAME_TRAIN.ts"
            raise InputError(f"{name!r} is not a set of series", known, "check the path")
        path = path.with_name(path.name.removesuffix("TRAIN.ts") + f"{half}.ts")
        with os_errors("read", path):
            return parse_ts(path.read_text(encoding="utf-8", errors="replace"), str(path))

    @cached_property
    def _training(self) -> tuple[NDArray[np.float32], list[str]]:
        series, labels, _ = self._half("TRAIN")
        length = self._options.length or max(map(len, series))
        return equal_length(series, length), labels

    @cached_property
    def scaling(self) -> Scaling:
        return Scaling.of(self._training[0])

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"shape": list(self._training[0].shape[1:]), "outputs": len(self.classes)}

    def load(self, split: str) -> SampleSet:
        """Raises InputError: no such split, no data, a class that `@classLabel` does not name."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        values, names = self._training
        if split == "test":
            series, names, _ = self._half("TEST")
            values = equal_length(series, values.shape[1])
        order = shuffled(len(values))
        if split != "test":
            is_validation = np.arange(len(order)) % VALIDATION == 0
            order = order[is_validation if split == "val" else ~is_validation]
        labels = np.array([self.classes.index(name) for name in names], np.int64)
        return reading.sample_set(f"{self.name}:{split}", {"input": self.scaling(values)[order]}, labels[order])

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """Noise of a tenth of the standard deviation, and a gain of 0.9 to 1.1 per channel."""
        import torch

        x = inputs["input"]
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        gain = 0.9 + 0.2 * torch.rand(len(x), 1, x.shape[2], generator=generator).to(x.device)
        return {"input": x * gain + 0.1 * noise}, labels

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        self.scaling.write(folder)
