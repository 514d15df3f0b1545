"""Samples in batches, on the device that learns from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InputError
from edgekit.training.calls import as_input

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from edgekit.types import SampleSet

#: a set up to this size is held in memory, on the accelerator where there is one
WHOLE_BYTES = 512_000_000


class Rows:
    """Some rows of an array, read when asked for."""

    def __init__(self, array: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        self._array, self._numbers = array, numbers
        self.shape, self.dtype, self.ndim = (len(numbers), *array.shape[1:]), array.dtype, array.ndim
        self.nbytes = array.nbytes // max(1, len(array)) * len(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, chosen: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._array[self._numbers[chosen]]
        return found


class Samples:
    """A set on the device where it is small; else batches are read from where it lies."""

    def __init__(self, data: SampleSet, device: torch.device) -> None:
        """Raises InputError for a set without labels."""
        import torch

        if data.labels is None:
            raise InputError(f"{data.name} has no labels", "there is nothing to learn from", "name a set with labels")
        labels = data.labels.astype(np.int64 if data.labels.dtype.kind in "iub" else np.float32)
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._inputs: dict[str, Any] = dict(data.inputs)
        if sum(array.nbytes for array in data.inputs.values()) <= WHOLE_BYTES:
            whole = {name: np.require(array[:], requirements="W") for name, array in data.inputs.items()}
            self._inputs = {name: torch.from_numpy(array).to(device) for name, array in whole.items()}

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """One batch after the other: inputs as the network takes them, and labels; `chosen` holds samples' numbers."""
        for numbers in chosen:
            yield self.batch(numbers)

    def batch(self, chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        import torch

        here = chosen.to(self._device)
        inputs = {
            name: as_input(array[here])
            if isinstance(array, torch.Tensor)
            else as_input(array[chosen.numpy()]).to(self._device)
            for name, array in self._inputs.items()
        }
        return inputs, self._labels[here]
