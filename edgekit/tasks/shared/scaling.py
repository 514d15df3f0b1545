"""Values brought to mean 0 and spread 1 before the network; the numbers go along"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: values further out are cut off: one outlier would cost int8 all its steps
MOST = 6.0
FILE = "scaling.json"


@dataclass(frozen=True)
class Scaling:
    """(x - mean) / std over the last axis, cut at ±6. On a device: the same, from `scaling.json`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Scaling:
        """Of training samples (N, …, k); NaN are left out. A column of one value gets a spread of 1."""
        flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        mean, std = np.nanmean(flat, axis=0), np.nanstd(flat, axis=0)
        return cls(tuple(map(float, mean)), tuple(float(s) or 1.0 for s in std))

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        scaled = (values - np.array(self.mean)) / np.array(self.std)
        cut: NDArray[np.float32] = np.clip(scaled, -MOST, MOST).astype(np.float32)
        return cut

    def write(self, folder: Path) -> None:
        text = json.dumps({"mean": self.mean, "std": self.std, "most": MOST}, indent=1)
        (folder / FILE).write_text(text + "\n")
