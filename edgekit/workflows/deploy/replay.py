"""Files that a bundle replays with its own program, and the host's answers to them.

Arrays prove the model; files prove what the user will run: decoding, preprocessing and the order of the classes, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import sets, tasks
from edgekit.core import errors, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.relative_paths import leads_out
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.measure.execute import execute
from edgekit.runs.store import Store
from edgekit.sets import box_annotations
from edgekit.sets.boxes import BoxedImages
from edgekit.sets.class_order import in_order_of
from edgekit.sets.folder import Folder
from edgekit.sets.masks import MaskedImages
from edgekit.sets.options import parse_set_spec
from edgekit.sets.reading import Item, UnreadableSample, sample_set, split_of

#: how many files are replayed, and how many bytes of them a bundle may hold
FILES, MAX_BYTES = 32, 32_000_000

#: what a bundle's program reads itself: images with Pillow, and WAV
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff", ".wav")


@dataclass(frozen=True)
class Replay:
    """`files`: name in the bundle → the file here. `answers`: output name → (files, …), the host's. `labels`: indices
    of the artifact's classes, None without labels."""

    files: Mapping[str, Path]
    answers: Mapping[str, NDArray[Any]]
    labels: tuple[int, ...] | None

    def record(self) -> dict[str, Any]:
        """For the manifest, next to the answers."""
        return {"names": list(self.files), "labels": self.labels}


def choose(artifact: Artifact, data: str) -> str:
    """The SET whose files are replayed: `data`, else the artifact's task or calibration set; "" if they are no files.

    Raises InputError if `data` holds no files that a bundle's program reads.
    """
    if data:
        if not _files_of(data):
            why = "the check replays a folder of images or sounds"
            raise InputError(f"{data} cannot be replayed", why, "name a folder of them with --data")
        return data
    task = artifact.task if artifact.task and not tasks.has_options(artifact.task) else ""
    store = Store(artifact.path.parent)
    made_with = [artifact, *(store.get(parent.name) for parent in artifact.parents)]
    known = [f"{task}:test" if task else "", *(str(each.fields.get("calibration") or "") for each in made_with)]
    return next((text for text in known if text and _files_of(text)), "")


def replay(artifact: Artifact, data: str, here: Target, runtime: str) -> Replay | None:
    """Up to 32 files of the SET `data`, from all classes, with the answers of the artifact on this machine.

    None if it holds no readable ones. Raises InputError, Missing.
    """
    spec = parse_set_spec(data)
    reader = sets.reader_of(spec, artifact.inputs)
    assert isinstance(reader, Folder | BoxedImages | MaskedImages)
    items = [item for item in reader if not spec.split or split_of(item, reader.splits) == spec.split]
    root = Path(spec.path) if Path(spec.path).is_dir() else Path(spec.path).parent
    chosen: list[tuple[Item, Mapping[str, NDArray[Any]]]] = []
    total = 0
    for item in _from_all_classes(items):
        if isinstance(reader, BoxedImages) and leads_out(root, Path(item.name)):
            continue  # a data set from elsewhere may name any file of this machine
        size = Path(item.name).stat().st_size
        if len(chosen) == FILES or total + size > MAX_BYTES:
            continue
        try:
            chosen.append((item, item.read()))
        except UnreadableSample:
            continue
        total += size
    if not chosen:
        return None
    inputs = {name: np.stack([values[name] for _, values in chosen]) for name in chosen[0][1]}
    labels = _labels(data, [item for item, _ in chosen], artifact) if isinstance(reader, Folder) else None
    answers = execute(artifact, here, sample_set(data, inputs, None), Plan(), runtime=runtime, latency=False).outputs
    names = [f"check/files/{index:02}{Path(item.name).suffix.lower()}" for index, (item, _) in enumerate(chosen)]
    return Replay(dict(zip(names, [Path(item.name) for item, _ in chosen], strict=True)), answers, labels)


def write(replayed: Replay, folder: Path) -> dict[str, Path]:
    """Copy the files and answers below `folder`; name in the bundle → path."""
    files: dict[str, Path] = {}
    with errors.os_errors("write", folder):
        (folder / "check" / "files").mkdir(parents=True, exist_ok=True)
        for name, path in replayed.files.items():
            files[name] = Path(shutil.copyfile(path, folder / name))
    return files


def sentence(check: Mapping[str, Any]) -> str:
    """What the check on files found, for people; "" if there was none."""
    replayed = check.get("files")
    if not replayed:
        return ""
    if "skipped" in replayed:
        return f"not checked on files: {replayed['skipped']}"
    text = f"{replayed['count']} files through its own program"
    if replayed.get("top1_agreement") is not None:
        text += f": {replayed['top1_agreement']:.1%} the host's answers"
    if "boxes_agreement" in replayed and replayed["boxes_agreement"] is None:
        text += ": it finds no boxes in them, there as here"
    elif replayed.get("boxes_agreement") is not None:
        text += f": {replayed['boxes_agreement']:.1%} of the host's boxes"
    if replayed.get("correct") is not None:
        text += f", {replayed['correct']} right (host {replayed['correct_host']})"
        if statistics.wilson(replayed["correct_host"], replayed["count"])[0] <= 1 / replayed["classes"]:
            text += "; no better than chance: state its class names (import --classes) and preprocessing (--signature)"
    return text


def _files_of(text: str) -> bool:
    if tasks.has_options(text):
        return False
    spec = parse_set_spec(text)
    folder = Path(spec.path)
    if box_annotations.are_at(folder):
        return True
    return folder.is_dir() and bool(sets.folder_suffixes(folder) & set(SUFFIXES))


def _from_all_classes(items: Sequence[Item]) -> Iterator[Item]:
    """The items class by class in turn, each class in an order that depends on its names only."""
    by_label: dict[Any, list[Item]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    rng = np.random.default_rng(0)
    groups = [[group[i] for i in rng.permutation(len(group))] for group in by_label.values()]
    for index in range(max(map(len, groups), default=0)):
        yield from (group[index] for group in groups if index < len(group))


def _labels(data: str, items: Sequence[Item], artifact: Artifact) -> tuple[int, ...] | None:
    """The labels as indices of the artifact's classes; None if there are none, or if they are values."""
    known = sets.labels(data)
    if known is None or not known.are_classes or any(item.label is None for item in items):
        return None
    indices = known.array([item.label for item in items if item.label is not None])
    empty = {"": np.zeros(len(items))}
    labelled = SampleSet(data, empty, indices, "", classes=known.names)
    ordered = in_order_of(labelled, artifact.signature.classes).labels
    assert ordered is not None
    return tuple(map(int, ordered))
