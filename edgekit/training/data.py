"""Training samples in batches, on the training device."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core import children
from edgekit.core.errors import InputError
from edgekit.sets.stream import Source, too_many_unreadable
from edgekit.training import session
from edgekit.training.calls import as_input

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from edgekit.core.samples import SampleSet

#: a set up to this size is held in the training device's memory
IN_MEMORY_BYTES = 512_000_000
#: batches that each worker prefetches
PREFETCH = 3
MAX_WORKERS = 16

log = logging.getLogger("edgekit")


class Rows:
    """Some rows of an array, read on access."""

    def __init__(self, array: NDArray[Any], indices: NDArray[np.int64]) -> None:
        self._array, self._indices = array, indices
        self.shape, self.dtype, self.ndim = (len(indices), *array.shape[1:]), array.dtype, array.ndim
        self.nbytes = array.nbytes // max(1, len(array)) * len(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows: NDArray[Any] = self._array[self._indices[key]]
        return rows


class Samples:
    """A small set is held on the device; batches of a larger one are read from its file, or decoded."""

    def __init__(self, data: SampleSet, device: torch.device) -> None:
        """Raises InputError for a set without labels."""
        import torch

        if data.labels is None:
            raise InputError(f"{data.name} has no labels", "training needs labels", "name a set with labels")
        labels = data.labels.astype(np.int64 if data.labels.dtype.kind in "iub" else np.float32)
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._inputs: dict[str, Any] = dict(data.inputs)
        self._source: Source | None = getattr(next(iter(self._inputs.values())), "source", None)
        self._unreadable = 0
        if self._source is None and sum(array.nbytes for array in data.inputs.values()) <= IN_MEMORY_BYTES:
            whole = {name: np.require(array[:], requirements="W") for name, array in data.inputs.items()}
            self._inputs = {name: torch.from_numpy(array).to(device) for name, array in whole.items()}

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Inputs as the network takes them, and labels, for each batch; `batches` holds the indices of its samples.

        Unreadable samples of a streamed set are skipped and logged. Raises InputError if there are too many.
        """
        if self._source is not None:
            yield from self._streamed(self._source, batches)
        elif self._device.type == "cuda" and not self._in_memory:
            yield from self._prefetched(batches)
        else:
            yield from map(self._batch, batches)

    @property
    def _in_memory(self) -> bool:
        import torch

        return all(isinstance(array, torch.Tensor) for array in self._inputs.values())

    def _batch(self, indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if self._in_memory:
            indices = indices.to(self._device)
            return {name: as_input(array[indices]) for name, array in self._inputs.items()}, self._labels[indices]
        return self._to_device(self._read(indices), indices)

    def _read(self, indices: Tensor) -> dict[str, Tensor]:
        import torch

        arrays = {name: torch.from_numpy(np.array(array[indices.numpy()])) for name, array in self._inputs.items()}
        return {name: t.pin_memory() for name, t in arrays.items()} if self._device.type == "cuda" else arrays

    def _to_device(self, arrays: Mapping[str, Tensor], indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Moved to the device first and converted to float there, which keeps transfers small."""
        inputs = {name: as_input(array.to(self._device, non_blocking=True)) for name, array in arrays.items()}
        return inputs, self._labels[indices.to(self._device, non_blocking=True)]

    def _prefetched(self, batches: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """A thread reads the next batches while the accelerator trains on the current one."""
        with ThreadPoolExecutor(1) as reader:
            pending: deque[Future[dict[str, Tensor]]] = deque()
            for index, indices in enumerate(batches):
                while len(pending) < PREFETCH and index + len(pending) < len(batches):
                    pending.append(reader.submit(self._read, batches[index + len(pending)]))
                yield self._to_device(pending.popleft().result(), indices)

    def _streamed(self, source: Source, batches: Sequence[Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Decoded by worker processes, a few batches ahead, in the given order."""
        import torch
        from torch.utils.data import DataLoader

        count = session.current().workers
        workers = min(len(batches), MAX_WORKERS, _cpu_count()) if count < 0 else count
        loader: Any = DataLoader(
            Decoder(source),  # type: ignore[arg-type]
            batch_sampler=[indices.tolist() for indices in batches],
            num_workers=workers,
            collate_fn=_identity,
            pin_memory=self._device.type == "cuda",
            prefetch_factor=PREFETCH if workers else None,
            worker_init_fn=children.end_with_parent,
            generator=torch.Generator(),  # the default would advance the generator that dropout uses
        )
        for indices, (arrays, kept, unreadable) in zip(batches, loader, strict=True):
            if isinstance(unreadable, tuple):
                raise InputError(*unreadable)
            self._count_unreadable(source, unreadable, none_readable=not kept)
            yield self._to_device(arrays, indices[kept])

    def _count_unreadable(self, source: Source, unreadable: Sequence[str], none_readable: bool) -> None:
        for message in unreadable:
            log.warning("%s: skipped %s", source.name, message)
        self._unreadable += len(unreadable)
        if none_readable or (unreadable and too_many_unreadable(self._unreadable, len(self))):
            what = f"{self._unreadable} samples of {source.name} could not be read"
            raise InputError(what, unreadable[-1], "fix or remove these samples")


class Decoder:
    """Runs in a worker: sample indices → tensors, the positions that could be read, and why the others could not.

    An InputError comes back as its three sentences: as an exception it would contain the worker's traceback.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: list[int]) -> tuple[dict[str, Tensor], list[int], Any]:
        import torch

        try:
            arrays, kept, unreadable = self._source.read(indices)
        except InputError as error:
            return {}, [], (error.what, error.why, error.next)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, kept, unreadable


def _identity(batch: Any) -> Any:
    return batch


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
