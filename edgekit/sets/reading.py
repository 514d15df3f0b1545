"""Common to all formats: list samples, decode them one by one, skip and report unreadable ones."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.sets.labels import Labels, Raw
from edgekit.sets.memmap import MemmapWriter, chunks
from edgekit.sets.options import SPLITS, Options

log = logging.getLogger("edgekit")

#: a set with a larger fraction of unreadable samples is an error
MAX_UNREADABLE = 0.05
MAX_LISTED = 3

#: accepted names of split folders, and values of the column `split`
SPLIT_NAMES = {**{name: name for name in SPLITS}, "valid": "val", "validation": "val"}


class UnreadableSample(Exception):
    """This sample cannot be read; the message says why. `count`: how many samples it stands for."""

    def __init__(self, why: str, count: int = 1) -> None:
        super().__init__(why)
        self.count = count


@dataclass(frozen=True)
class Item:
    """One sample, listed but not decoded. `name` is for messages, its split is drawn from `key`.

    `read` gives input name → array, or raises UnreadableSample; it must be called before the next item is listed.
    `reread`, if available, does the same at any time; `state` is that of the file. `target` gives a label that is an
    array (boxes, a mask), or raises UnreadableSample.
    """

    name: str
    key: str
    label: Raw | None
    read: Callable[[], Mapping[str, NDArray[Any]]]
    split: str = ""
    reread: Callable[[], Mapping[str, NDArray[Any]]] | None = None
    state: str = ""
    target: Callable[[], NDArray[Any]] | None = None


class Reader(Protocol):
    """Data of one format, as one model takes it; can be iterated repeatedly."""

    labelled: bool
    #: the splits that the data itself names
    splits: frozenset[str]

    @property
    def count(self) -> int | None:
        """The number of samples, if known without reading."""

    def decoded(self) -> Mapping[str, InputSignature]:
        """By input name, how the files read so far became arrays; nothing where the data holds arrays."""

    def notes(self) -> tuple[str, ...]:
        """What was left out, and what the user should know about the files read so far, a sentence each."""

    def __iter__(self) -> Iterator[Item]: ...


def collect(name: str, reader: Reader, options: Options, split: str, progress: Progress) -> SampleSet:
    """The samples of a split ("": all). Raises InputError: none, too many unreadable, inconsistent labels."""
    selected = _selection(reader, options, split)
    labels, raw, targets = Labels(name, options.labels), [], _Targets()
    writers: dict[str, MemmapWriter] = {}
    skipped: list[str] = []
    unreadable = index = 0
    for item in progress(reader, f"reading {name}", reader.count):
        if item.label is not None:
            labels.add(item.name, item.label)
        if split and split_of(item, reader.splits) != split:
            continue
        index += 1
        if selected is not None and index - 1 not in selected:
            continue
        try:
            values = _checked_values(item, reader.labelled)
            target = item.target() if item.target and reader.labelled else None
            _append(writers, values)
        except UnreadableSample as error:
            skipped.append(f"{item.name}: {error}")
            unreadable += error.count
        else:
            raw.append(item.label)
            if target is not None:
                targets.append(target)
    _check_skipped(name, skipped, unreadable, len(raw), split)
    inputs = {key: writer.array() for key, writer in writers.items()}
    array = None
    if reader.labelled:
        array = targets.array() if targets else labels.array([label for label in raw if label is not None])
    notes = list(reader.notes())
    if array is not None and not targets and array.dtype.kind == "i" and len(np.unique(array)) == 1:
        one_class = f"{labels.classes[array[0]]!r}, {len(array)} times"
        if split == "train":
            raise InputError(f"{name} holds one class only", one_class, "add a second class")
        notes.append(f"it holds one class only: {one_class}")
    chosen = sample_set(name, inputs, array, tuple(skipped), tuple(notes))
    return replace(chosen, classes=labels.names, decoded=reader.decoded())


def labels_of(name: str, reader: Reader, options: Options) -> Labels:
    """The labels of the data, without decoding samples."""
    labels = Labels(name, options.labels)
    for item in reader:
        if item.label is not None:
            labels.add(item.name, item.label)
    return labels


def read_sample(reader: Reader, split: str, index: int) -> Mapping[str, NDArray[Any]] | None:
    """The inputs of the sample with this index (before skipping), without decoding others; None beyond the last."""
    items = (item for item in reader if not split or split_of(item, reader.splits) == split)
    for i, item in enumerate(items):
        if i == index:
            try:
                return item.read()
            except UnreadableSample as error:
                raise InputError(f"cannot read {item.name}", str(error), "name another sample") from error
    return None


def split_of(item: Item, declared: frozenset[str]) -> str:
    """train, val or test: as given by the data, else drawn 80/10/10 by the sha256 of the item's key.

    It depends on nothing else, so a sample stays in its split when others are added or removed. Splits that the data
    does not name are drawn from its training split.
    """
    if item.split not in ("", "train"):
        return item.split
    bucket = int.from_bytes(hashlib.sha256(item.key.encode("utf-8", "surrogateescape")).digest()[:8]) % 10
    split = {8: "val", 9: "test"}.get(bucket, "train")
    return "train" if split in declared else split


def sample_set(
    name: str,
    inputs: Mapping[str, NDArray[Any]],
    labels: NDArray[Any] | None,
    skipped: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> SampleSet:
    """A set with the sha256 of its arrays' names, dtypes, shapes and bytes.

    `inputs`: input name → array with samples on the first axis; `skipped`: unreadable samples, and why; `notes`: how
    others were changed.
    """
    digest = hashlib.sha256()
    for key, array in [*sorted(inputs.items()), *([("label", labels)] if labels is not None else [])]:
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        for chunk in chunks(array):
            digest.update(chunk.data)
    return SampleSet(name, inputs, labels, digest.hexdigest(), skipped, notes)


def refuse_nan(where: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises InputError for NaN or infinity, naming the first such sample."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = int(np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0][0])
            raise InputError(f"{where}: sample {index} of {name!r} holds NaN or infinity", next="fix or remove it")


def draw(count: int, total: int, seed: int) -> list[int]:
    """`count` different indices below `total`, or all of them, in random order."""
    return random.Random(seed).sample(range(total), min(count, total))


def _selection(reader: Reader, options: Options, split: str) -> frozenset[int] | None:
    if not options.count:
        return None
    total = sum(1 for item in reader if not split or split_of(item, reader.splits) == split)
    return frozenset(draw(options.count, total, options.seed))


def _checked_values(item: Item, labelled: bool) -> Mapping[str, NDArray[Any]]:
    """The item's inputs. Raises UnreadableSample if a value is not finite, or the label is missing."""
    values = item.read()
    if labelled and item.label is None and item.target is None:
        raise UnreadableSample("it has no label")
    for key, value in values.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise UnreadableSample(f"{key!r} holds NaN or infinity")
    return values


class _Targets:
    """Labels that are arrays, as one: of integers, which are of one shape, or of numbers, whose lengths may differ."""

    def __init__(self) -> None:
        self._writer, self._ragged, self._count = MemmapWriter(), list[NDArray[Any]](), 0

    def __bool__(self) -> bool:
        return bool(self._count)

    def append(self, target: NDArray[Any]) -> None:
        self._count += 1
        if target.dtype.kind == "f":
            self._ragged.append(target)
        else:
            self._writer.append(target)

    def array(self) -> NDArray[Any]:
        """Where they differ in length, -1 fills up."""
        if not self._ragged:
            return self._writer.array()
        length = max(map(len, self._ragged))
        result = np.full((self._count, length, *self._ragged[0].shape[1:]), -1, self._ragged[0].dtype)
        for index, target in enumerate(self._ragged):
            result[index, : len(target)] = target
        return result


def _append(writers: dict[str, MemmapWriter], values: Mapping[str, NDArray[Any]]) -> None:
    if writers and set(writers) != set(values):
        raise UnreadableSample(
            f"it holds {', '.join(sorted(values))}, the first sample holds {', '.join(sorted(writers))}"
        )
    for key, value in values.items():
        if not writers.setdefault(key, MemmapWriter()).fits(value):
            raise UnreadableSample(f"{key!r} is {value.dtype}{list(value.shape)}, unlike the first sample's")
    for key, value in values.items():
        writers[key].append(value)


def _check_skipped(name: str, skipped: list[str], unreadable: int, readable: int, split: str) -> None:
    """Report skipped samples. Raises InputError if there are too many, or if none are left."""
    if skipped and unreadable > MAX_UNREADABLE * (unreadable + readable):
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise InputError(
            f"{unreadable} of {unreadable + readable} samples of {name} cannot be read",
            skipped[0] + more,
            "fix or remove them",
        )
    if not readable:
        why = f"the 80/10/10 split left none for {split}" if split else ""
        raise InputError(
            f"{name} holds no samples", why, "add samples, or name the splits in the data" if split else ""
        )
    if skipped:
        listed = "; ".join(skipped[:MAX_LISTED]) + ("; …" if len(skipped) > MAX_LISTED else "")
        log.warning("%s: %d of %d samples skipped: %s", name, unreadable, unreadable + readable, listed)
