"""Samples in batches, on the device that learns from them."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.sets.stream import Source, too_many
from edgekit.training import session
from edgekit.training.calls import as_input

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from edgekit.core.samples import SampleSet

#: a set up to this size is held in memory, on the accelerator where there is one
WHOLE_BYTES = 512_000_000
#: batches that are read before they are needed, by each worker
AHEAD = 3
MOST_WORKERS = 16

log = logging.getLogger("edgekit")


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
    """A set on the device where it is small; else batches are read from where it lies, or decoded."""

    def __init__(self, data: SampleSet, device: torch.device) -> None:
        """Raises InputError for a set without labels."""
        import torch

        if data.labels is None:
            raise InputError(f"{data.name} has no labels", "there is nothing to learn from", "name a set with labels")
        labels = data.labels.astype(np.int64 if data.labels.dtype.kind in "iub" else np.float32)
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._inputs: dict[str, Any] = dict(data.inputs)
        self._source: Source | None = getattr(next(iter(self._inputs.values())), "source", None)
        self._broken = 0
        if self._source is None and sum(array.nbytes for array in data.inputs.values()) <= WHOLE_BYTES:
            whole = {name: np.require(array[:], requirements="W") for name, array in data.inputs.items()}
            self._inputs = {name: torch.from_numpy(array).to(device) for name, array in whole.items()}

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """One batch after the other: inputs as the network takes them, and labels; `chosen` holds samples' numbers.

        Raises InputError where too many of a streamed set cannot be decoded; a few are left out, and named in the log.
        """
        if self._source is not None:
            yield from self._streamed(self._source, chosen)
        elif self._device.type == "cuda" and not self._whole:
            yield from self._ahead(chosen)
        else:
            yield from map(self._batch, chosen)

    @property
    def _whole(self) -> bool:
        import torch

        return all(isinstance(array, torch.Tensor) for array in self._inputs.values())

    def _batch(self, chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if self._whole:
            here = chosen.to(self._device)
            return {name: as_input(array[here]) for name, array in self._inputs.items()}, self._labels[here]
        return self._sent(self._read(chosen), chosen)

    def _read(self, chosen: Tensor) -> dict[str, Tensor]:
        import torch

        found = {name: torch.from_numpy(np.array(array[chosen.numpy()])) for name, array in self._inputs.items()}
        return {name: t.pin_memory() for name, t in found.items()} if self._device.type == "cuda" else found

    def _sent(self, arrays: Mapping[str, Tensor], chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """On the device, and only there as float: what goes over the bus stays small."""
        inputs = {name: as_input(array.to(self._device, non_blocking=True)) for name, array in arrays.items()}
        return inputs, self._labels[chosen.to(self._device, non_blocking=True)]

    def _ahead(self, chosen: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """The next batches are read while the accelerator learns from one."""
        with ThreadPoolExecutor(1) as reader:
            waiting: deque[Future[dict[str, Tensor]]] = deque()
            for index, numbers in enumerate(chosen):
                while len(waiting) < AHEAD and index + len(waiting) < len(chosen):
                    waiting.append(reader.submit(self._read, chosen[index + len(waiting)]))
                yield self._sent(waiting.popleft().result(), numbers)

    def _streamed(self, source: Source, chosen: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Decoded by processes of their own, a few batches ahead, in the order asked for."""
        import torch
        from torch.utils.data import DataLoader

        count = session.current().workers
        workers = min(len(chosen), MOST_WORKERS, _cores()) if count < 0 else count
        loader: Any = DataLoader(
            Decoding(source),  # type: ignore[arg-type]
            batch_sampler=[numbers.tolist() for numbers in chosen],
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self._device.type == "cuda",
            prefetch_factor=AHEAD if workers else None,
            generator=torch.Generator(),  # else it would draw from the one that dropout draws from
        )
        for numbers, (arrays, kept, broken) in zip(chosen, loader, strict=True):
            if isinstance(broken, tuple):
                raise InputError(*broken)
            self._note(source, broken, none=not kept)
            yield self._sent(arrays, numbers[kept])

    def _note(self, source: Source, broken: Sequence[str], none: bool) -> None:
        for said in broken:
            log.warning("%s: left out: %s", source.name, said)
        self._broken += len(broken)
        if none or (broken and too_many(self._broken, len(self))):
            what = f"{self._broken} samples of {source.name} could not be read"
            raise InputError(what, broken[-1], "mend them, or drop them")


class Decoding:
    """What a worker does: numbers of samples → tensors, which of them could be read, and why the others could not.

    A refusal comes back as its three sentences: as an exception it would come with the worker's traceback in it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, numbers: list[int]) -> tuple[dict[str, Tensor], list[int], Any]:
        import torch

        try:
            arrays, kept, broken = self._source.read(numbers)
        except InputError as error:
            return {}, [], (error.what, error.why, error.next)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, kept, broken


def _as_it_is(batch: Any) -> Any:
    return batch


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
