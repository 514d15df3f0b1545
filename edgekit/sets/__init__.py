"""SETs: `task:split`, a manifest, or data in files.

The path determines the format: `.npz`, a folder of images or sounds by class, `.csv`, `.tsv`, `.jsonl`, `.parquet`,
WebDataset shards (`.tar`), images with boxes (a folder with COCO's JSON, or a YOLO data set's `data.yaml`) or masks;
for a model with a tokenizer also texts, in a column of a table or the lines of a `.txt`. Options follow a question mark
(`photos?size=96x96&scale=255`), and `:train`, `:val` or `:test` names a split. Samples are decoded one by one; a large
set is memory-mapped from a temporary file.

A manifest (`calibration/NAME.toml`) names samples of a split or of data: `ids`, or `count` drawn with `seed`; its
sha256 is checked, so a calibration is reproducible to the byte. It may hold the same options.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from edgekit.core import registry
from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.samples import SampleSet
from edgekit.sets import audio, box_annotations, boxes, images, masks, npz, reading, shards, tables, texts
from edgekit.sets.folder import Folder, file_suffixes
from edgekit.sets.labels import Labels
from edgekit.sets.options import SetSpec, parse_set_spec
from edgekit.sets.random_inputs import random_inputs
from edgekit.sets.reading import Reader, collect, sample_set
from edgekit.sets.stream import streamed

__all__ = ["halves", "has_images", "is_data", "labels", "random_inputs", "read", "reader_of", "sample_set", "take"]

#: sets that are still in use, so that they are not decoded again
_cache: WeakValueDictionary[tuple[object, ...], SampleSet] = WeakValueDictionary()


def is_data(path: str) -> bool:
    """Whether the path names data: a file by its suffix, or an existing folder. A task of that name has priority."""
    if path in registry.names("tasks"):
        return False
    files = (".npz", *tables.SUFFIXES, texts.LINES, *shards.SUFFIXES, *box_annotations.YAML)
    return path.lower().endswith(files) or (bool(path) and Path(path).is_dir())


def has_images(spec: SetSpec) -> bool:
    """Whether the samples are images."""
    return Path(spec.path).is_dir() and bool(file_suffixes(Path(spec.path)) & set(images.SUFFIXES))


def is_table(spec: SetSpec) -> bool:
    """Whether the samples are rows of a table."""
    return spec.path.lower().endswith(tables.SUFFIXES)


def folder_suffixes(folder: Path) -> frozenset[str]:
    """The suffixes of all files below the folder."""
    return file_suffixes(folder)


def labels(text: str) -> Labels | None:
    """The labels of all splits, without decoding samples; None if the data has none. Raises InputError."""
    spec = parse_set_spec(text)
    reader = reader_of(spec, ())
    if isinstance(reader, masks.MaskedImages):
        next = f"to train on masks: edgekit train 'segmentation?data={spec.path}'"
        raise InputError(f"{text} holds images with masks", "a classification has one label per image", next)
    return reading.labels_of(text, reader, spec.options) if reader.labelled else None


def take(data: SampleSet, count: int, name: str = "") -> SampleSet:
    """The first `count` samples (0: all) as a set."""
    if not 0 < count < len(data):
        return data
    labels = None if data.labels is None else data.labels[:count]
    chosen = sample_set(name or f"{data.name}[:{count}]", {k: v[:count] for k, v in data.inputs.items()}, labels)
    return replace(chosen, classes=data.classes, decoded=data.decoded)


def read(name: str, spec: SetSpec, model_inputs: Sequence[TensorSpec] = (), progress: Progress = quiet) -> SampleSet:
    """The samples of data in files, as a model with the inputs `model_inputs` takes them; `name` is for results.

    Raises InputError if the data does not exist or holds too many unreadable samples; Missing.
    """
    key = (str(Path(spec.path).absolute()), spec.options, spec.split, tuple(model_inputs), _files_state(spec.path))
    data = _cache.get(key)
    if data is None:
        reader = reader_of(spec, model_inputs)
        if spec.options.stream and spec.split == "train":
            if not isinstance(reader, Folder | shards.Shards):
                raise InputError(f"{name} cannot be streamed", "only folders and shards can", "leave out stream")
            reader.stream = True
            data = _cache[key] = streamed(name, reader, spec.options, spec.split, progress)
            return data
        if isinstance(reader, npz.Npz) and not spec.split and not spec.options.count:
            data = sample_set(Path(spec.path).name, reader.inputs, reader.encoded(), notes=reader.notes())
            data = replace(data, classes=reader.classes)
        else:
            data = collect(name, reader, spec.options, spec.split, progress)
        if isinstance(reader, boxes.BoxedImages):
            data = reader.described(data, spec.split)
        elif isinstance(reader, masks.MaskedImages):
            data = replace(data, classes=reader.classes)
        _cache[key] = data
    return data


def _files_state(path: str) -> int:
    """A number that changes when a file changes."""
    if Path(path).is_dir() or path.lower().endswith(box_annotations.YAML):
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        files += box_annotations.files(Path(path)) if box_annotations.are_at(Path(path)) else []
    else:
        files = list(shards.expand_paths(path)) if path.lower().endswith(shards.SUFFIXES) else [Path(path)]
    stats = [(str(file), file.stat()) for file in sorted(files) if file.is_file()]
    return hash(tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats))


def reader_of(spec: SetSpec, model_inputs: Sequence[TensorSpec]) -> Reader:
    """The reader for the format of the path. Raises InputError."""
    path, lower = Path(spec.path), spec.path.lower()
    if texts.are_at(path) and (texts.takes_text(model_inputs) or not (model_inputs or lower.endswith(tables.SUFFIXES))):
        return texts.Texts(path, spec.options, model_inputs)
    if lower.endswith(texts.LINES):
        why = f"the model takes {', '.join(map(str, model_inputs))}, and has no tokenizer"
        raise InputError(f"{path} holds texts", why, "import the model with its tokenizer, or name an .npz")
    if lower.endswith(".npz"):
        return npz.Npz(path, spec.options, model_inputs)
    if lower.endswith(tables.SUFFIXES):
        return tables.Table(path, spec.options, model_inputs)
    if lower.endswith(shards.SUFFIXES):
        return shards.Shards(spec.path, spec.options, model_inputs)
    if box_annotations.are_at(path):
        return boxes.BoxedImages(path, spec, model_inputs)
    if masks.are_at(path):
        return masks.MaskedImages(path, spec.options, model_inputs)
    suffixes = file_suffixes(path)
    modules = [module for module in (images, audio) if suffixes & set(module.SUFFIXES)]
    if len(modules) > 1:
        raise InputError(f"{path} holds images and sounds", "a set holds one of them", "name one of its folders")
    if modules:
        folder_reader: Reader = modules[0].read(path, spec.options, model_inputs)
        return folder_reader
    files = [ending for ending in (*tables.SUFFIXES, ".npz", ".tar") if ending in suffixes]
    why = f"it holds {', '.join(sorted(filter(None, suffixes))[:5]) or 'no files'}"
    known = f"supported images: {', '.join(images.SUFFIXES)}; sounds: {', '.join(audio.SUFFIXES)}"
    next = f"name the file: {path}/NAME{files[0]}" if files else known
    raise InputError(f"{path} holds no samples", why, next)


#: the samples of a set that `halves` gives
FIRST_HALF, SECOND_HALF = slice(0, None, 2), slice(1, None, 2)


def halves(data: SampleSet) -> tuple[SampleSet, SampleSet]:
    """Every other sample for selection, the others for confirmation; a single sample is used for both."""
    if len(data) < 2:
        return data, data
    return _half(data, FIRST_HALF), _half(data, SECOND_HALF)


def _half(data: SampleSet, rows: slice) -> SampleSet:
    inputs = {name: values[rows] for name, values in data.inputs.items()}
    labels = None if data.labels is None else data.labels[rows]
    name, digest = f"{data.name}, half {rows.start + 1}", f"{data.sha256}/{rows.start}"
    return SampleSet(name, inputs, labels, digest, classes=data.classes, decoded=data.decoded)
