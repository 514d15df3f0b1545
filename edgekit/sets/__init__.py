"""SETs: `task:split`, a manifest, or data in files.

Data is found by what the path is: `.npz`, a folder of images or of sounds by class, `.csv`, `.tsv`, `.jsonl`,
`.parquet`, WebDataset shards (`.tar`). Options follow a question mark (`photos?size=96x96&scale=255`), and `:train`,
`:val` or `:test` names a split. Samples are decoded one after the other; a large set lies in a file.

A manifest (`calibration/NAME.toml`) names samples of a split, or of data: `ids`, or `count` drawn with `seed`; its
sha256 is checked, so a calibration can be repeated to the byte. It may hold the same options.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from edgekit import folders, registry, tasks
from edgekit.errors import InputError, RecipeError
from edgekit.sets import _reading, audio, images, npz, shards, tables
from edgekit.sets._folder import Folder, class_folders, endings
from edgekit.sets._labels import Labels
from edgekit.sets._options import SPLITS, Options, Word, take_apart
from edgekit.sets._reading import Corrupt, Reader, collect, refuse_nan, sample_set
from edgekit.sets._spool import Spool, chunks
from edgekit.sets._stream import streamed
from edgekit.tables import build, read_toml
from edgekit.types import Artifact, Progress, SampleSet, TensorSpec, quiet

__all__ = [
    "SPLITS",
    "Corrupt",
    "Options",
    "chunks",
    "has_images",
    "is_data",
    "labelled",
    "labels",
    "load",
    "one",
    "refuse_other_folders",
    "sample_set",
    "stand_in",
]
__all__ += ["take", "take_apart"]

RANDOM_SAMPLES = 16
#: how long an open axis is where nothing says how long
OPEN_LENGTH = 8


@dataclass(frozen=True)
class Manifest(Options):
    """`task` and `split`, or `source`: a path as in a SET."""

    task: str = ""
    split: str = ""
    source: str = ""
    ids: tuple[int, ...] = ()
    sha256: str = ""
    why: str = ""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if bool(self.task) == bool(self.source):
            yield "name one of task and source"
        if self.task and not self.split:
            yield "split is missing"


#: sets that something still uses, so that a task which asks again does not decode again
_loaded: WeakValueDictionary[tuple[object, ...], SampleSet] = WeakValueDictionary()


def load(text: str, like: Sequence[TensorSpec] = (), progress: Progress = quiet) -> SampleSet:
    """The set that `text` names, as a model with the inputs `like` takes it (an image's size and layout).

    Raises InputError for what is not there, not a set, or holds too many broken samples; Missing.
    """
    path = Path(text) if text.endswith(".toml") else folders.find("calibration", text)
    if path is not None:
        return _manifest(path, like, progress)
    task, colon, split = text.rpartition(":")
    if tasks.configured(task):
        return _of_task(task, split)
    word = take_apart(text)
    if is_data(word.path):
        return _data(text, word, like, progress)
    if colon and task not in registry.names("tasks") and registry.is_reference(text):
        raise InputError(f"{text!r} is a task, not a set", next=f"name a split: {text}:val")
    if colon:
        return _of_task(task, split)
    hint = registry.suggest(text, folders.names("calibration"))
    if Path(text).is_dir():
        hint = f"the task {text} has that name: write ./{text} for the folder"
    kinds = "a set is task:split, a manifest, a folder, or a file (.npz, .csv, .tsv, .jsonl, .parquet, .tar)"
    raise InputError(f"{text!r} is not a set", kinds, hint)


def is_data(path: str) -> bool:
    """Does the path name data: a file by its ending, or a folder that is there? A task of that name comes first."""
    if path in registry.names("tasks"):
        return False
    return path.lower().endswith((".npz", *tables.SUFFIXES, *shards.SUFFIXES)) or (bool(path) and Path(path).is_dir())


def has_images(word: Word) -> bool:
    """Is an image what a sample of this data is?"""
    return Path(word.path).is_dir() and bool(endings(Path(word.path)) & set(images.SUFFIXES))


def labels(text: str) -> Labels | None:
    """The labels of data, in all of its splits, nothing decoded; None where it has none. Raises InputError."""
    word = take_apart(text)
    reader = _reader(word, ())
    return _reading.labels_of(text, reader, word.options) if reader.labelled else None


def labelled(text: str) -> bool:
    """Does the SET come with labels? Data is not decoded for this. Raises InputError."""
    if tasks.configured(text):
        return load(text).labels is not None
    word = take_apart(text)
    return _reader(word, ()).labelled if is_data(word.path) else load(text).labels is not None


def one(text: str, index: int, like: Sequence[TensorSpec]) -> Mapping[str, NDArray[Any]]:
    """Input name → (1, …) array of one sample of a SET. Raises InputError where there is no such sample."""
    word = None if tasks.configured(text) else take_apart(text)
    if word and is_data(word.path):
        values = _reading.one(_reader(word, like), word.split, index)
        if values is None:
            raise InputError(f"{text} has no sample {index}", next="count from 0")
        return {name: value[None] for name, value in values.items()}
    data = load(text, like)
    if index >= len(data):
        raise InputError(f"{text} has no sample {index}", f"it has {len(data)}", "count from 0")
    return {name: value[index : index + 1] for name, value in data.inputs.items()}


def stand_in(artifact: Artifact, root: Artifact) -> SampleSet:
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


def refuse_other_folders(text: str) -> None:
    """Raises InputError where a SET is a folder whose splits `train` and `val` do not hold the same classes."""
    path = Path(take_apart(text).path) if not tasks.configured(text) and is_data(take_apart(text).path) else None
    found = class_folders(path) if path is not None and path.is_dir() else {}
    train, val = (found.get(split, frozenset()) for split in ("train", "val"))
    if train and val and train != val:
        said = [
            f"only {split} has {', '.join(map(repr, sorted(names)[:5]))}" + (" …" if len(names) > 5 else "")
            for split, names in (("train", train - val), ("val", val - train))
            if names
        ]
        what = f"the classes in {path}/train and {path}/val differ"
        raise InputError(what, "; ".join(said), "give both the same class folders")


def take(data: SampleSet, count: int, name: str = "") -> SampleSet:
    """The first `count` samples (0: all of them) as a set of its own."""
    if not 0 < count < len(data):
        return data
    labels = None if data.labels is None else data.labels[:count]
    return sample_set(name or f"{data.name}[:{count}]", {k: v[:count] for k, v in data.inputs.items()}, labels)


def _of_task(word: str, split: str) -> SampleSet:
    """A task's split. Raises InputError for whatever a task of the user's own does wrong."""
    task = tasks.load(word)
    if word in registry.names("tasks") or tasks.configured(word) or not registry.is_reference(word):
        return task.load(split)
    from edgekit.networks.factory import running

    data = running(word, f"{word} cannot load {split!r}", lambda: task.load(split))
    if not isinstance(data, SampleSet):
        raise InputError(f"{word}: load gives a {type(data).__name__}", next="return edgekit.sets.sample_set(…)")
    refuse_nan(f"{word}:{split}", {**data.inputs, **({} if data.labels is None else {"label": data.labels})})
    lengths = {name: len(array) for name, array in data.inputs.items()}
    lengths |= {} if data.labels is None else {"labels": len(data.labels)}
    if len(set(lengths.values())) != 1 or not len(data):
        shown = ", ".join(f"{name} {count}" for name, count in lengths.items()) or "it holds nothing"
        raise InputError(f"{word}: the arrays of {split!r} must be of one length, not 0", shown, "check load")
    return data


def _data(name: str, word: Word, like: Sequence[TensorSpec], progress: Progress) -> SampleSet:
    key = (str(Path(word.path).absolute()), word.options, word.split, tuple(like), _state(word.path))
    found = _loaded.get(key)
    if found is None:
        reader = _reader(word, like)
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


def _reader(word: Word, like: Sequence[TensorSpec]) -> Reader:
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


def _manifest(path: Path, like: Sequence[TensorSpec], progress: Progress) -> SampleSet:
    manifest, problems = build(Manifest, read_toml(path), "")
    if manifest is None:
        raise RecipeError(str(path), problems)
    if manifest.source:
        given = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(Options)}
        options = Options(**given) if not manifest.ids else Options(**{**given, "count": 0})
        chosen = _data(path.stem, Word(manifest.source, options, manifest.split), like, progress)
        if manifest.ids:
            chosen = _picked(chosen, list(manifest.ids), path)
    else:
        whole = load(f"{manifest.task}:{manifest.split}", like, progress)
        ids = list(manifest.ids) or _reading.draw(manifest.count, len(whole), manifest.seed)
        chosen = _picked(whole, ids, path)
    if manifest.sha256 and manifest.sha256 != chosen.sha256:
        raise InputError(
            f"{path} does not match its samples", f"their sha256 is {chosen.sha256}", "was the data changed?"
        )
    return chosen


def _picked(whole: SampleSet, ids: list[int], path: Path) -> SampleSet:
    if not ids:
        raise InputError(f"{path} names no samples", next="give ids, or count and seed")
    if min(ids) < 0 or max(ids) >= len(whole):
        raise InputError(f"{path} names sample {max(ids)}", f"{whole.name} has {len(whole)} samples")
    inputs = {}
    for name, array in whole.inputs.items():
        spool = Spool()
        for i in ids:
            spool.append(array[i, ...])
        inputs[name] = spool.array()
    return sample_set(path.stem, inputs, None if whole.labels is None else whole.labels[ids])
