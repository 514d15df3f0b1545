"""SETs by name: `task:split`, a manifest, or data in files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit import tasks
from edgekit.core import errors, paths, registry, user_code
from edgekit.core.artifact import TensorSpec
from edgekit.core.config import build, read_toml
from edgekit.core.errors import InputError, RecipeError
from edgekit.core.progress import Progress, quiet
from edgekit.core.samples import SampleSet
from edgekit.core.user_code import run_user_code
from edgekit.sets import is_data, read, reader_of, reading
from edgekit.sets.folder import class_folders
from edgekit.sets.memmap import MemmapWriter
from edgekit.sets.options import Options, SetSpec, parse_set_spec
from edgekit.sets.reading import refuse_nan, sample_set


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


def load(text: str, like: Sequence[TensorSpec] = (), progress: Progress = quiet) -> SampleSet:
    """The set that `text` names, decoded for a model with the inputs `like` (an image's size and layout).

    Raises InputError if it does not exist, is not a set, or has too many unreadable samples; Missing.
    """
    path = Path(text) if text.endswith(".toml") else paths.find("calibration", text)
    if path is not None:
        return _manifest(path, like, progress)
    task, colon, split = text.rpartition(":")
    if tasks.has_options(task):
        return _of_task(task, split)
    spec = parse_set_spec(text)
    if is_data(spec.path):
        return read(text, spec, like, progress)
    if colon and task not in registry.names("tasks") and user_code.is_reference(text):
        raise InputError(f"{text!r} is a task, not a set", next=f"name a split: {text}:val")
    if colon:
        return _of_task(task, split)
    hint = errors.suggest(text, paths.names("calibration"))
    if Path(text).is_dir():
        hint = f"{text} is the name of a task, too: write ./{text} for the folder"
    kinds = "a set is task:split, a manifest, a folder, or a file (.npz, .csv, .tsv, .jsonl, .parquet, .tar)"
    raise InputError(f"{text!r} is not a set", kinds, hint)


def has_labels(text: str) -> bool:
    """Does the SET have labels? Its data is not decoded for this. Raises InputError."""
    if tasks.has_options(text):
        return load(text).labels is not None
    spec = parse_set_spec(text)
    return reader_of(spec, ()).labelled if is_data(spec.path) else load(text).labels is not None


def load_sample(text: str, index: int, like: Sequence[TensorSpec]) -> Mapping[str, NDArray[Any]]:
    """Input name → (1, …) array of one sample of a SET. Raises InputError if there is no such sample."""
    spec = None if tasks.has_options(text) else parse_set_spec(text)
    if spec and is_data(spec.path):
        reader = reader_of(spec, like)
        reader.labelled = False  # a label is not needed
        values = reading.read_sample(reader, spec.split, index)
        if values is None:
            raise InputError(f"{text} has no sample {index}", next="the first sample is number 0")
        return {name: value[None] for name, value in values.items()}
    data = load(text, like)
    if index >= len(data):
        raise InputError(f"{text} has no sample {index}", f"it has {len(data)} samples", "the first is number 0")
    return {name: value[index : index + 1] for name, value in data.inputs.items()}


def check_class_folders(text: str) -> None:
    """Raises InputError if a SET is a folder whose splits `train` and `val` do not have the same classes."""
    path = (
        Path(parse_set_spec(text).path) if not tasks.has_options(text) and is_data(parse_set_spec(text).path) else None
    )
    classes = class_folders(path) if path is not None and path.is_dir() else {}
    train, val = (classes.get(split, frozenset()) for split in ("train", "val"))
    if train and val and train != val:
        differences = [
            f"only {split} has {', '.join(map(repr, sorted(names)[:5]))}" + (" …" if len(names) > 5 else "")
            for split, names in (("train", train - val), ("val", val - train))
            if names
        ]
        what = f"the classes in {path}/train and {path}/val differ"
        raise InputError(what, "; ".join(differences), "give both the same class folders")


def _of_task(word: str, split: str) -> SampleSet:
    """A task's split. Raises InputError for any fault of a task of the user's own."""
    task = tasks.load(word)
    if word in registry.names("tasks") or tasks.has_options(word) or not user_code.is_reference(word):
        return task.load(split)

    data = run_user_code(word, f"{word} cannot load {split!r}", lambda: task.load(split))
    if not isinstance(data, SampleSet):
        raise InputError(f"{word}: load returns a {type(data).__name__}", next="return edgekit.sets.sample_set(…)")
    refuse_nan(f"{word}:{split}", {**data.inputs, **({} if data.labels is None else {"label": data.labels})})
    lengths = {name: len(array) for name, array in data.inputs.items()}
    lengths |= {} if data.labels is None else {"labels": len(data.labels)}
    if len(set(lengths.values())) != 1 or not len(data):
        shown = ", ".join(f"{name} {count}" for name, count in lengths.items()) or "there are no arrays"
        raise InputError(f"{word}: the arrays of {split!r} must have one length, not 0", shown, "check its load")
    return data


def _manifest(path: Path, like: Sequence[TensorSpec], progress: Progress) -> SampleSet:
    manifest, problems = build(Manifest, read_toml(path), "")
    if manifest is None:
        raise RecipeError(str(path), problems)
    if manifest.source:
        values = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(Options)}
        options = Options(**values) if not manifest.ids else Options(**{**values, "count": 0})
        chosen = read(path.stem, SetSpec(manifest.source, options, manifest.split), like, progress)
        if manifest.ids:
            chosen = _select(chosen, list(manifest.ids), path)
    else:
        whole = load(f"{manifest.task}:{manifest.split}", like, progress)
        ids = list(manifest.ids) or reading.draw(manifest.count, len(whole), manifest.seed)
        chosen = _select(whole, ids, path)
    if manifest.sha256 and manifest.sha256 != chosen.sha256:
        raise InputError(
            f"{path} does not match its samples", f"their sha256 is {chosen.sha256}", "check if the data has changed"
        )
    return chosen


def _select(whole: SampleSet, ids: list[int], path: Path) -> SampleSet:
    if not ids:
        raise InputError(f"{path} names no samples", next="give ids, or count and seed")
    if min(ids) < 0 or max(ids) >= len(whole):
        what = f"{path} names sample {min(ids) if min(ids) < 0 else max(ids)}"
        raise InputError(what, f"{whole.name} has {len(whole)} samples", "the first is number 0")
    inputs = {}
    for name, array in whole.inputs.items():
        writer = MemmapWriter()
        for i in ids:
            writer.append(array[i, ...])
        inputs[name] = writer.array()
    return sample_set(path.stem, inputs, None if whole.labels is None else whole.labels[ids])
