"""Folders of files by class: `ROOT/CLASS/FILE`, `ROOT/{train,val,test}/CLASS/FILE`, or files alone (unlabelled)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgekit.core.errors import InputError, os_errors
from edgekit.core.signature import InputSignature
from edgekit.sets.labels import Raw
from edgekit.sets.reading import SPLIT_NAMES, Item

#: suffixes of files that are not used, at most, in a note
MOST_LISTED = 5

Decode = Callable[[Path], Mapping[str, NDArray[Any]]]


class Decoder(Protocol):
    """What decodes files, and says how it did."""

    def decoded(self) -> Mapping[str, InputSignature]: ...

    def notes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class _Group:
    """The files of one class in one split, in alphabetical order, relative to the root."""

    split: str
    label: Raw | None
    files: tuple[str, ...]


class Folder:
    """Files with the given suffixes; `decode` reads one as input name → array.

    Raises InputError for a folder without samples, one with both files and class folders, and an empty class.
    """

    #: whether each item needs its file's state, which costs a stat call
    stream = False

    def __init__(self, root: Path, suffixes: tuple[str, ...], decode: Decode, decoder: Decoder | None = None) -> None:
        self._root, self._decode, self._decoder = root, decode, decoder
        with os_errors("read", root):
            groups = list(_groups(root, suffixes))
        self._groups = [group for group in groups if group.files]
        self.count: int | None = sum(len(group.files) for group in self._groups)
        self.labelled = any(group.label is not None for group in self._groups)
        self.splits = frozenset(group.split for group in self._groups) - {""}
        if not self.count:
            raise InputError(f"{root} holds no samples", f"it has no {', '.join(suffixes)} file", "check the path")
        classes = {group.label for group in self._groups}
        if self.labelled and (empty := [str(group.label) for group in groups if group.label not in classes]):
            what, advice = f"{root} has a class without samples", "add files to it, or remove the folder"
            raise InputError(what, f"{empty[0]}/ is empty", advice)
        with os_errors("read", root):
            self._left_out = tuple(_left_out(root, {file for group in self._groups for file in group.files}))

    def __iter__(self) -> Iterator[Item]:
        for group in self._groups:
            for file in group.files:
                read = partial(self._read, file)
                state = file_state(self._root / file) if self.stream else ""
                yield Item(str(self._root / file), file, group.label, read, group.split, read, state)

    def decoded(self) -> Mapping[str, InputSignature]:
        return self._decoder.decoded() if self._decoder else {}

    def notes(self) -> tuple[str, ...]:
        return (*self._left_out, *(self._decoder.notes() if self._decoder else ()))

    def _read(self, file: str) -> Mapping[str, NDArray[Any]]:
        return self._decode(self._root / file)


def file_state(path: Path) -> str:
    """A file's size and modification time."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def class_folders(root: Path) -> dict[str, frozenset[str]]:
    """Split → names of its class folders, for a folder with split folders; empty for others."""
    with os_errors("read", root):
        splits = _folders(root)
        if not splits or not all(name in SPLIT_NAMES for name in splits):
            return {}
        return {SPLIT_NAMES[name]: frozenset(_folders(root / name)) for name in splits}


def file_suffixes(root: Path) -> frozenset[str]:
    """The suffixes of all files below the folder."""
    with os_errors("read", root):
        return frozenset(os.path.splitext(name)[1].lower() for name in _walk(root, ""))  # noqa: PTH122


def _left_out(root: Path, used: Collection[str]) -> Iterator[str]:
    """What is in the folder and is not used: files of other types, and links to folders. One sentence each."""
    folders = {str(parent) for file in used for parent in Path(file).parents}
    others: Counter[str] = Counter()
    links = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        links += [
            str(relative / name)
            for name in inner
            if Path(folder, name).is_symlink() and str(relative / name) not in folders
        ]
        unused = [name for name in files if not name.startswith(".") and str(relative / name) not in used]
        others.update(Path(name).suffix.lower() or name for name in unused)
    if others:
        shown = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(MOST_LISTED))
        yield f"files that are not used: {shown}"
    if links:
        more = f" and {len(links) - 1} more" if len(links) > 1 else ""
        yield f"links to folders are not followed: {sorted(links)[0]}{more}"


def _groups(root: Path, suffixes: tuple[str, ...]) -> Iterator[_Group]:
    folders = _folders(root)
    if folders and all(name in SPLIT_NAMES for name in folders):
        for name in folders:
            yield from _classes(root, name, SPLIT_NAMES[name], suffixes)
    else:
        yield from _classes(root, "", "", suffixes)


def _classes(root: Path, subfolder: str, split: str, suffixes: tuple[str, ...]) -> Iterator[_Group]:
    """One group per class folder in `subfolder` (also empty ones), or one unlabelled group of the files in it.

    A folder that holds only other file types is not a class.
    """
    folder = root / subfolder
    unlabelled = tuple(
        str(Path(subfolder, entry.name))
        for entry in _entries(folder)
        if entry.is_file() and entry.name.lower().endswith(suffixes)
    )
    groups = []
    for name in _folders(folder):
        files_below = tuple(_walk(root, str(Path(subfolder, name))))
        files = tuple(f for f in files_below if f.lower().endswith(suffixes))
        if name.encode("utf-8", "surrogateescape") != name.encode("utf-8", "replace"):
            shown = name.encode("utf-8", "replace").decode()
            raise InputError(f"{folder} has a class folder {shown!r}", "its name is not UTF-8 text", "rename it")
        # in alphabetical order, 10 would come before 2: a folder named by a number is the class of that index
        if files or not files_below:
            groups.append(_Group(split, int(name) if re.fullmatch("[0-9]{1,9}", name) else name, files))
    if unlabelled and any(group.files for group in groups):
        what = f"{folder} holds both files and class folders"
        why = f"{unlabelled[0]} is in no class folder"
        raise InputError(what, why, "move it into a class folder, or name one of the folders")
    yield from groups if not unlabelled else ()
    if unlabelled:
        yield _Group(split, None, unlabelled)


def _walk(root: Path, subfolder: str) -> Iterator[str]:
    """All files at any depth except hidden ones, relative to the root, in alphabetical order."""
    for folder, inner, files in os.walk(root / subfolder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in _entries(folder) if entry.is_dir())
