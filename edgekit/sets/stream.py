"""Sets that are decoded sample by sample, whenever they are asked for: folders and shards larger than memory and disk.

Everything is listed once (paths, or places in the shards, and labels); nothing is decoded but the first sample, which
says the shape. Any sample can be read at any time, so a training's order is as free as that of a set in memory.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.sets.labels import Labels
from edgekit.sets.options import Options
from edgekit.sets.reading import TOO_MANY, Reader, UnreadableSample, draw, split_of

log = logging.getLogger("edgekit")

#: decodes one sample: input name → array; raises Corrupt
Read = Callable[[], Mapping[str, NDArray[Any]]]


class Source:
    """Samples that can be read in any order, from several processes at once."""

    def __init__(self, name: str, reads: Sequence[Read], names: Sequence[str]) -> None:
        """Decodes the first that can be. Raises InputError where none of the first hundred can."""
        self.name, self._reads, self._names = name, reads, names
        self._like: dict[str, NDArray[Any]] = {}
        for number in range(min(100, len(reads))):
            try:
                self._like = dict(reads[number]())
                break
            except UnreadableSample as error:
                log.warning("%s: %s", names[number], error)
        if not self._like:
            raise InputError(f"{name} cannot be read", "none of its first samples can be decoded", "mend them")

    def __len__(self) -> int:
        return len(self._reads)

    @property
    def inputs(self) -> dict[str, Streamed]:
        return {key: Streamed(self, key, value) for key, value in self._like.items()}

    def read(self, numbers: Iterable[int]) -> tuple[dict[str, NDArray[Any]], list[int], list[str]]:
        """The arrays of these samples, which of them (by place) could be read, and why the others could not."""
        found: dict[str, list[NDArray[Any]]] = {key: [] for key in self._like}
        kept, broken = [], []
        for place, number in enumerate(numbers):
            try:
                values = self._checked(self._reads[number]())
            except UnreadableSample as error:
                broken.append(f"{self._names[number]}: {error}")
                continue
            kept.append(place)
            for key, value in values.items():
                found[key].append(value)
        return {key: np.stack(v) if v else self._empty(key) for key, v in found.items()}, kept, broken

    def _checked(self, values: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Raises Corrupt for a sample that is unlike the first, or not finite."""
        if set(values) != set(self._like):
            raise UnreadableSample(f"it holds {', '.join(sorted(values))}")
        for key, value in values.items():
            like = self._like[key]
            if (value.shape, value.dtype) != (like.shape, like.dtype):
                raise UnreadableSample(f"{key!r} is {value.dtype}{list(value.shape)}, unlike the first one's")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise UnreadableSample(f"{key!r} holds NaN or infinity")
        return values

    def _empty(self, key: str) -> NDArray[Any]:
        return np.empty((0, *self._like[key].shape), self._like[key].dtype)


class Streamed:
    """One input of a source, as far as it is like an array: its shape, and rows by number."""

    def __init__(self, source: Source, name: str, like: NDArray[Any]) -> None:
        self.source, self._name = source, name
        self.shape, self.dtype, self.ndim = (len(source), *like.shape), like.dtype, like.ndim + 1
        self.nbytes, self.size = like.nbytes * len(source), like.size * len(source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, chosen: Any) -> NDArray[Any]:
        """Raises InputError for a sample that cannot be read."""
        first, *rest = chosen if isinstance(chosen, tuple) else (chosen,)
        numbers = np.arange(len(self))[first]
        arrays, _, broken = self.source.read(np.atleast_1d(numbers).tolist())
        if broken:
            raise InputError(f"{self.source.name} holds a sample that cannot be read", broken[0], "mend or drop it")
        found: NDArray[Any] = arrays[self._name]
        found = found[0] if np.ndim(numbers) == 0 else found
        return found if not rest or rest == [...] else found[tuple(rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def spread(self, count: int) -> NDArray[Any]:
        """At most so many samples, evenly from first to last."""
        return self[np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))]


def streamed(name: str, reader: Reader, options: Options, split: str, progress: Progress) -> SampleSet:
    """The samples of a split, listed. Its sha256 is over names, labels and the state of the files, not over what is in
    them. Raises InputError: none, no labels, or files that cannot be read in any order."""
    labels, raw, reads, names = Labels(name, options.labels), [], [], []
    digest = hashlib.sha256(repr(options).encode())
    for item in progress(reader, f"listing {name}", reader.count):
        if item.label is not None:
            labels.see(item.name, item.label)
        if split_of(item, reader.splits) != split or item.label is None:
            continue
        if item.again is None:
            what = f"{item.name} cannot be streamed"
            raise InputError(what, "it can only be read in order", "unpack .tar.gz to .tar, or leave out stream")
        raw.append(item.label)
        reads.append(item.again)
        names.append(item.name)
        digest.update(f"{item.key} {item.label!r} {item.state}\n".encode("utf-8", "surrogateescape"))
    if options.count:
        chosen = sorted(draw(options.count, len(raw), options.seed))
        raw, reads, names = [raw[i] for i in chosen], [reads[i] for i in chosen], [names[i] for i in chosen]
        digest.update(repr(chosen).encode())
    if not raw:
        raise InputError(f"{name} holds no labelled samples", next="give it more, or name the splits yourself")
    source = Source(name, reads, names)
    inputs: dict[str, Any] = dict(source.inputs)
    return SampleSet(name, inputs, labels.array(raw), digest.hexdigest())


def too_many(broken: int, count: int) -> bool:
    return broken > TOO_MANY * count
