"""Streamed sets: samples of folders and shards are decoded on access, so that the set may be larger than memory.

Paths (or offsets in the shards) and labels are listed once; only the first sample is decoded, for its shape. Samples
can be read in any order, so training uses the same order as with a set in memory.
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
from edgekit.sets.reading import MAX_UNREADABLE, Reader, UnreadableSample, draw, split_of

log = logging.getLogger("edgekit")

#: decodes one sample: input name → array; raises UnreadableSample
Read = Callable[[], Mapping[str, NDArray[Any]]]


class Source:
    """Samples that can be read in any order, from several processes at once."""

    def __init__(self, name: str, reads: Sequence[Read], names: Sequence[str]) -> None:
        """Decodes the first readable sample. Raises InputError if none of the first hundred is readable."""
        self.name, self._reads, self._names = name, reads, names
        self._template: dict[str, NDArray[Any]] = {}
        for index in range(min(100, len(reads))):
            try:
                self._template = dict(reads[index]())
                break
            except UnreadableSample as error:
                log.warning("%s: %s", names[index], error)
        if not self._template:
            raise InputError(f"{name} cannot be read", "none of its first samples can be decoded", "fix or remove them")

    def __len__(self) -> int:
        return len(self._reads)

    @property
    def inputs(self) -> dict[str, Streamed]:
        return {key: Streamed(self, key, value) for key, value in self._template.items()}

    def read(self, indices: Iterable[int]) -> tuple[dict[str, NDArray[Any]], list[int], list[str]]:
        """The arrays of these samples, the positions of the readable ones, and why the others are unreadable."""
        values_by_input: dict[str, list[NDArray[Any]]] = {key: [] for key in self._template}
        kept, unreadable = [], []
        for position, index in enumerate(indices):
            try:
                values = self._check(self._reads[index]())
            except UnreadableSample as error:
                unreadable.append(f"{self._names[index]}: {error}")
                continue
            kept.append(position)
            for key, value in values.items():
                values_by_input[key].append(value)
        return {key: np.stack(v) if v else self._empty(key) for key, v in values_by_input.items()}, kept, unreadable

    def _check(self, values: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Raises UnreadableSample for a sample that differs from the first in its inputs, or is not finite."""
        if set(values) != set(self._template):
            raise UnreadableSample(f"it holds {', '.join(sorted(values))}")
        for key, value in values.items():
            template = self._template[key]
            if (value.shape, value.dtype) != (template.shape, template.dtype):
                raise UnreadableSample(f"{key!r} is {value.dtype}{list(value.shape)}, unlike the first sample's")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise UnreadableSample(f"{key!r} holds NaN or infinity")
        return values

    def _empty(self, key: str) -> NDArray[Any]:
        return np.empty((0, *self._template[key].shape), self._template[key].dtype)


class Streamed:
    """One input of a source with an array's shape, dtype and row access."""

    def __init__(self, source: Source, name: str, template: NDArray[Any]) -> None:
        self.source, self._name = source, name
        self.shape, self.dtype, self.ndim = (len(source), *template.shape), template.dtype, template.ndim + 1
        self.nbytes, self.size = template.nbytes * len(source), template.size * len(source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, selected: Any) -> NDArray[Any]:
        """Raises InputError for an unreadable sample."""
        first, *rest = selected if isinstance(selected, tuple) else (selected,)
        indices = np.arange(len(self))[first]
        arrays, _, unreadable = self.source.read(np.atleast_1d(indices).tolist())
        if unreadable:
            raise InputError(f"{self.source.name} holds an unreadable sample", unreadable[0], "fix or remove it")
        values: NDArray[Any] = arrays[self._name]
        values = values[0] if np.ndim(indices) == 0 else values
        return values if not rest or rest == [...] else values[tuple(rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def spread(self, count: int) -> NDArray[Any]:
        """At most `count` samples, evenly spaced from first to last."""
        return self[np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))]


def streamed(name: str, reader: Reader, options: Options, split: str, progress: Progress) -> SampleSet:
    """The listed samples of a split. Its sha256 covers names, labels, and the files' sizes and times, not their
    contents. Raises InputError: no samples, no labels, or files without random access."""
    labels, raw, reads, names = Labels(name, options.labels), [], [], []
    digest = hashlib.sha256(repr(options).encode())
    for item in progress(reader, f"listing {name}", reader.count):
        if item.label is not None:
            labels.add(item.name, item.label)
        if split_of(item, reader.splits) != split or item.label is None:
            continue
        if item.reread is None:
            what = f"{item.name} cannot be streamed"
            raise InputError(what, "it can only be read in order", "decompress .tar.gz to .tar, or leave out stream")
        raw.append(item.label)
        reads.append(item.reread)
        names.append(item.name)
        digest.update(f"{item.key} {item.label!r} {item.state}\n".encode("utf-8", "surrogateescape"))
    if options.count:
        selected = sorted(draw(options.count, len(raw), options.seed))
        raw, reads, names = [raw[i] for i in selected], [reads[i] for i in selected], [names[i] for i in selected]
        digest.update(repr(selected).encode())
    if not raw:
        raise InputError(f"{name} holds no labelled samples", next="add samples, or name the splits in the data")
    source = Source(name, reads, names)
    inputs: dict[str, Any] = dict(source.inputs)
    array = labels.array(raw)
    return SampleSet(
        name, inputs, array, digest.hexdigest(), notes=reader.notes(), classes=labels.names, decoded=reader.decoded()
    )


def too_many_unreadable(unreadable: int, count: int) -> bool:
    return unreadable > MAX_UNREADABLE * count
