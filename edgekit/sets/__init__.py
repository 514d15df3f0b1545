"""SETs: `task:split`, a manifest, or data in files.

Data is found by what the path is: `.npz`, a folder of images or of sounds by class, `.csv`, `.tsv`, `.jsonl`,
`.parquet`, WebDataset shards (`.tar`). Options follow a question mark (`photos?size=96x96&scale=255`), and `:train`,
`:val` or `:test` names a split. Samples are decoded one after the other; a large set lies in a file.

A manifest (`calibration/NAME.toml`) names samples of a split, or of data: `ids`, or `count` drawn with `seed`; its
sha256 is checked, so a calibration can be repeated to the byte. It may hold the same options.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from edgekit.core import registry
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.samples import SampleSet
from edgekit.sets import audio, images, npz, reading, shards, tables
from edgekit.sets.folder import Folder, endings
from edgekit.sets.labels import Labels
from edgekit.sets.options import SetSpec, parse_set_spec
from edgekit.sets.reading import Reader, collect, sample_set
from edgekit.sets.stream import streamed

__all__ = ["halves", "has_images", "is_data", "labels", "random_inputs", "read", "reader_of", "sample_set", "take"]

RANDOM_SAMPLES = 16

#: how long an open axis is where nothing says how long
OPEN_LENGTH = 8

#: sets that something still uses, so that a task which asks again does not decode again
_loaded: WeakValueDictionary[tuple[object, ...], SampleSet] = WeakValueDictionary()


def is_data(path: str) -> bool:
    """Does the path name data: a file by its ending, or a folder that is there? A task of that name comes first."""
    if path in registry.names("tasks"):
        return False
    return path.lower().endswith((".npz", *tables.SUFFIXES, *shards.SUFFIXES)) or (bool(path) and Path(path).is_dir())


def has_images(word: SetSpec) -> bool:
    """Is an image what a sample of this data is?"""
    return Path(word.path).is_dir() and bool(endings(Path(word.path)) & set(images.SUFFIXES))


def labels(text: str) -> Labels | None:
    """The labels of data, in all of its splits, nothing decoded; None where it has none. Raises InputError."""
    word = parse_set_spec(text)
    reader = reader_of(word, ())
    return reading.labels_of(text, reader, word.options) if reader.labelled else None


def random_inputs(artifact: Artifact, root: Artifact) -> SampleSet:
    """Random inputs for a model that came without data: floats from 0 to 1, integers and truth values 0 or 1.

    What the chain's root was imported with decides more: its example's shapes where axes are open, and the range of
    its integers (token ids). Raises InputError for a type that cannot be made up.
    """
    example, ranges = root.details.get("example", {}), root.details.get("ranges", {})
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    # all share one first axis: the batch; else each sample is the whole of an input whose first axis is fixed
    batched = len({spec.shape[:1] for spec in (*artifact.inputs, *artifact.outputs)}) == 1 and artifact.inputs[0].shape
    for spec in artifact.inputs:
        if spec.dtype in ("string", "sequence"):
            raise InputError(f"input {spec.name!r} is of type {spec.dtype}", "samples cannot be made up", "pass a SET")
        known = example.get(spec.name) or [OPEN_LENGTH] * len(spec.shape)
        sizes = [size or k for size, k in zip(spec.shape, known, strict=True)]
        shape = [RANDOM_SAMPLES, *(sizes[1:] if batched or spec.shape[:1] in ((None,), (1,)) else sizes)]
        low, high = ranges.get(spec.name, (0, 1))
        values = rng.random(shape) if "float" in spec.dtype else rng.integers(low, high, shape, endpoint=True)
        inputs[spec.name] = values.astype(spec.dtype)
    return sample_set("random", inputs, None)


def take(data: SampleSet, count: int, name: str = "") -> SampleSet:
    """The first `count` samples (0: all of them) as a set of its own."""
    if not 0 < count < len(data):
        return data
    labels = None if data.labels is None else data.labels[:count]
    return sample_set(name or f"{data.name}[:{count}]", {k: v[:count] for k, v in data.inputs.items()}, labels)


def read(name: str, word: SetSpec, like: Sequence[TensorSpec] = (), progress: Progress = quiet) -> SampleSet:
    """The samples of data in files, under the name that results show, as a model with the inputs `like` takes them.

    Raises InputError for what is not there or holds too many broken samples; Missing.
    """
    key = (str(Path(word.path).absolute()), word.options, word.split, tuple(like), _state(word.path))
    found = _loaded.get(key)
    if found is None:
        reader = reader_of(word, like)
        if word.options.stream and word.split == "train":
            if not isinstance(reader, Folder | shards.Shards):
                raise InputError(f"{name} cannot be streamed", "only folders and shards can", "leave out stream")
            reader.stream = True
            found = _loaded[key] = streamed(name, reader, word.options, word.split, progress)
            return found
        if isinstance(reader, npz.Npz) and not word.split and not word.options.count:
            found = sample_set(Path(word.path).name, reader.inputs, reader.encoded())
        else:
            found = collect(name, reader, word.options, word.split, progress)
        _loaded[key] = found
    return found


def _state(path: str) -> int:
    """A number that changes when a file does."""
    if Path(path).is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    else:
        files = list(shards.expanded(path)) if path.lower().endswith(shards.SUFFIXES) else [Path(path)]
    stats = [(str(file), file.stat()) for file in sorted(files) if file.is_file()]
    return hash(tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats))


def reader_of(word: SetSpec, like: Sequence[TensorSpec]) -> Reader:
    """The data of a word, by what its path is. Raises InputError."""
    path, lower = Path(word.path), word.path.lower()
    if lower.endswith(".npz"):
        return npz.Npz(path, word.options)
    if lower.endswith(tables.SUFFIXES):
        return tables.Table(path, word.options, like)
    if lower.endswith(shards.SUFFIXES):
        return shards.Shards(word.path, word.options, like)
    found = endings(path)
    kinds = [kind for kind in (images, audio) if found & set(kind.SUFFIXES)]
    if len(kinds) > 1:
        raise InputError(f"{path} holds images and sounds", "a set is of one kind", "name one of its folders")
    if kinds:
        found_reader: Reader = kinds[0].read(path, word.options, like)
        return found_reader
    files = [ending for ending in (*tables.SUFFIXES, ".npz", ".tar") if ending in found]
    why = f"it holds {', '.join(sorted(filter(None, found))[:5]) or 'nothing'}"
    next = f"name the file: {path}/NAME{files[0]}" if files else f"images: {', '.join(images.SUFFIXES)}; sounds: .wav"
    raise InputError(f"{path} holds no samples", why, next)


def halves(data: SampleSet) -> tuple[SampleSet, SampleSet]:
    """Every other sample for choosing, the others for confirming; a single sample serves for both."""
    if len(data) < 2:
        return data, data
    return _part(data, 0), _part(data, 1)


def _part(data: SampleSet, start: int) -> SampleSet:
    inputs = {name: values[start::2] for name, values in data.inputs.items()}
    labels = None if data.labels is None else data.labels[start::2]
    return SampleSet(f"{data.name}, half {start + 1}", inputs, labels, f"{data.sha256}/{start}")
