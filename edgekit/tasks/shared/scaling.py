"""Standardization of input values; its mean and standard deviation are stored with the artifact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: values are clipped to ±6: one outlier would use up the int8 range
CLIP = 6.0
FILE = "scaling.json"


@dataclass(frozen=True)
class Scaling:
    """(x - mean) / std over the last axis, clipped to ±6. A device reads the same from `scaling.json`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Scaling:
        """From training samples (N, …, k), ignoring NaN. A constant column gets a standard deviation of 1."""
        flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        mean, std = np.nanmean(flat, axis=0), np.nanstd(flat, axis=0)
        return cls(tuple(map(float, mean)), tuple(float(s) or 1.0 for s in std))

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        scaled = (values - np.array(self.mean)) / np.array(self.std)
        clipped: NDArray[np.float32] = np.clip(scaled, -CLIP, CLIP).astype(np.float32)
        return clipped

    def write(self, folder: Path) -> None:
        text = json.dumps({"mean": self.mean, "std": self.std, "most": CLIP}, indent=1)
        (folder / FILE).write_text(text + "\n")
