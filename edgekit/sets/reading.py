"""What every kind of data shares: samples listed, decoded one by one into spools, broken ones left out and named."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.sets.labels import Labels, Raw
from edgekit.sets.options import SPLITS, Options
from edgekit.sets.spool import MemmapWriter, chunks

log = logging.getLogger("edgekit")

#: the share of broken samples from which on a set is refused
TOO_MANY = 0.05
SHOWN = 3

#: what a folder or the column `split` may call a split
SPLIT_NAMES = {**{name: name for name in SPLITS}, "valid": "val", "validation": "val"}


class UnreadableSample(Exception):
    """This sample cannot be read; the message says why. `count`: how many samples are lost with it."""

    def __init__(self, why: str, count: int = 1) -> None:
        super().__init__(why)
        self.count = count


@dataclass(frozen=True)
class Item:
    """One sample, listed but not decoded. `name` is for people, `key` is what its split is drawn from.

    `read` gives input name → array; it raises Corrupt, and is called before the next item is asked for, or never.
    `again` does the same at any time, where that can be; `state` is the file's.
    """

    name: str
    key: str
    label: Raw | None
    read: Callable[[], Mapping[str, NDArray[Any]]]
    split: str = ""
    again: Callable[[], Mapping[str, NDArray[Any]]] | None = None
    state: str = ""


class Reader(Protocol):
    """Data of one kind, as one model takes it; may be gone through again and again."""

    #: how many samples, where that is known without reading
    count: int | None
    labelled: bool
    #: the splits that the data itself names
    splits: frozenset[str]

    def __iter__(self) -> Iterator[Item]: ...


def collect(name: str, reader: Reader, options: Options, split: str, progress: Progress) -> SampleSet:
    """The samples of a split ("": all), streamed. Raises InputError: none, too many broken ones, labels at odds."""
    drawn = _drawn(reader, options, split)
    labels, raw = Labels(name, options.labels), []
    spools: dict[str, MemmapWriter] = {}
    skipped: list[str] = []
    lost = index = 0
    for item in progress(reader, f"reading {name}", reader.count):
        if item.label is not None:
            labels.see(item.name, item.label)
        if split and split_of(item, reader.splits) != split:
            continue
        index += 1
        if drawn is not None and index - 1 not in drawn:
            continue
        try:
            _append(spools, _whole(item, reader.labelled))
        except UnreadableSample as error:
            skipped.append(f"{item.name}: {error}")
            lost += error.count
        else:
            raw.append(item.label)
    _judge(name, skipped, lost, len(raw), split)
    inputs = {key: spool.array() for key, spool in spools.items()}
    array = labels.array([label for label in raw if label is not None]) if reader.labelled else None
    if array is not None and array.dtype.kind == "i" and len(np.unique(array)) == 1:
        what = f"{name} holds one class only"
        if split == "train":
            raise InputError(what, f"{labels.classes[array[0]]!r}, {len(array)} times", "give it a second one")
        log.warning("%s: %r", what, labels.classes[array[0]])
    return sample_set(name, inputs, array, tuple(skipped))


def labels_of(name: str, reader: Reader, options: Options) -> Labels:
    """Every label of the data, nothing decoded."""
    labels = Labels(name, options.labels)
    for item in reader:
        if item.label is not None:
            labels.see(item.name, item.label)
    return labels


def one(reader: Reader, split: str, index: int) -> Mapping[str, NDArray[Any]] | None:
    """The inputs of one sample, counted before any is skipped, nothing else decoded; None beyond the last."""
    found = (item for item in reader if not split or split_of(item, reader.splits) == split)
    for i, item in enumerate(found):
        if i == index:
            try:
                return item.read()
            except UnreadableSample as error:
                raise InputError(f"cannot read {item.name}", str(error), "name another sample") from error
    return None


def split_of(item: Item, declared: frozenset[str]) -> str:
    """train, val or test: what the data says, else drawn 80/10/10 from the sha256 of the item's key.

    The draw depends on nothing else, so a sample stays in its split when others come and go. Splits that the data
    does not name are drawn from its train.
    """
    if item.split not in ("", "train"):
        return item.split
    bucket = int.from_bytes(hashlib.sha256(item.key.encode("utf-8", "surrogateescape")).digest()[:8]) % 10
    drawn = {8: "val", 9: "test"}.get(bucket, "train")
    return "train" if drawn in declared else drawn


def sample_set(
    name: str,
    inputs: Mapping[str, NDArray[Any]],
    labels: NDArray[Any] | None,
    skipped: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> SampleSet:
    """A set with the sha256 over names, dtypes, shapes and bytes of its arrays.

    `inputs`: input name → array, first axis the sample; `skipped`: samples that could not be read, and why; `notes`:
    what was done to others.
    """
    digest = hashlib.sha256()
    for key, array in [*sorted(inputs.items()), *([("label", labels)] if labels is not None else [])]:
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        for chunk in chunks(array):
            digest.update(chunk.data)
    return SampleSet(name, inputs, labels, digest.hexdigest(), skipped, notes)


def refuse_nan(where: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises InputError for a sample that holds NaN or infinity, naming the first."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0][0])
            raise InputError(f"{where}: sample {bad} of {name!r} holds NaN or infinity", next="mend or drop it")


def draw(count: int, among: int, seed: int) -> list[int]:
    """`count` different numbers below `among`, or all of them, in the order drawn."""
    return random.Random(seed).sample(range(among), min(count, among))


def _drawn(reader: Reader, options: Options, split: str) -> frozenset[int] | None:
    if not options.count:
        return None
    among = sum(1 for item in reader if not split or split_of(item, reader.splits) == split)
    return frozenset(draw(options.count, among, options.seed))


def _whole(item: Item, labelled: bool) -> Mapping[str, NDArray[Any]]:
    """The item's inputs. Raises Corrupt where a value is not finite, or the label is missing."""
    values = item.read()
    if labelled and item.label is None:
        raise UnreadableSample("it has no label")
    for key, value in values.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise UnreadableSample(f"{key!r} holds NaN or infinity")
    return values


def _append(spools: dict[str, MemmapWriter], values: Mapping[str, NDArray[Any]]) -> None:
    if spools and set(spools) != set(values):
        raise UnreadableSample(
            f"it holds {', '.join(sorted(values))}, where the first one holds {', '.join(sorted(spools))}"
        )
    for key, value in values.items():
        if not spools.setdefault(key, MemmapWriter()).fits(value):
            raise UnreadableSample(f"{key!r} is {value.dtype}{list(value.shape)}, unlike the first one's")
    for key, value in values.items():
        spools[key].append(value)


def _judge(name: str, skipped: list[str], lost: int, kept: int, split: str) -> None:
    """Say what was skipped. Raises InputError where that is too much, or nothing is left."""
    if skipped and lost > TOO_MANY * (lost + kept):
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise InputError(f"{lost} of {lost + kept} samples of {name} cannot be read", skipped[0] + more, "mend them")
    if not kept:
        why = f"none of its samples fell to {split}, of 80/10/10 drawn" if split else ""
        raise InputError(f"{name} holds no samples", why, "give it more, or name the splits yourself" if split else "")
    if skipped:
        shown = "; ".join(skipped[:SHOWN]) + ("; …" if len(skipped) > SHOWN else "")
        log.warning("%s: %d of %d samples skipped: %s", name, lost, lost + kept, shown)
