"""Run by Olive in its own environment: the samples of an .npz file as a data set that its passes can name."""

from __future__ import annotations

import numpy as np
from olive.data.registry import Registry


@Registry.register_dataset("samples")
def samples(path: str, **_: object) -> Samples:
    return Samples(path)


class Samples:
    """Pairs of (input name → one sample without its batch axis, a label nobody reads)."""

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self._arrays = {name: file[name] for name in file.files}

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], int]:
        return {name: array[index] for name, array in self._arrays.items()}, 0
