"""Folders of files by class: `ROOT/CLASS/FILE`, `ROOT/{train,val,test}/CLASS/FILE`, or files alone (unlabelled)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.core.errors import InputError, os_errors
from edgekit.sets.labels import Raw
from edgekit.sets.reading import SPLIT_NAMES, Item

Decode = Callable[[Path], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class _Group:
    """The files of one class in one split, in alphabetical order, relative to the root."""

    split: str
    label: Raw | None
    files: tuple[str, ...]


class Folder:
    """Files with the given endings; `decode` turns one into input name → array.

    Raises InputError for a folder without any, one where files lie beside class folders, and a class without samples.
    """

    #: is every file's state wanted, which takes a look at each?
    stream = False

    def __init__(self, root: Path, suffixes: tuple[str, ...], decode: Decode) -> None:
        self._root, self._decode = root, decode
        with os_errors("read", root):
            found = list(_groups(root, suffixes))
        self._groups = [group for group in found if group.files]
        self.count: int | None = sum(len(group.files) for group in self._groups)
        self.labelled = any(group.label is not None for group in self._groups)
        self.splits = frozenset(group.split for group in self._groups) - {""}
        if not self.count:
            raise InputError(f"{root} holds no samples", f"no {', '.join(suffixes)} file lies in it", "check the path")
        filled = {group.label for group in self._groups}
        if self.labelled and (lacking := [str(group.label) for group in found if group.label not in filled]):
            what, how = f"{root} has a class without samples", "put some into it, or remove the folder"
            raise InputError(what, f"{lacking[0]}/ is empty", how)

    def __iter__(self) -> Iterator[Item]:
        for group in self._groups:
            for file in group.files:
                read = partial(self._read, file)
                state = file_state(self._root / file) if self.stream else ""
                yield Item(str(self._root / file), file, group.label, read, group.split, read, state)

    def _read(self, file: str) -> Mapping[str, NDArray[Any]]:
        return self._decode(self._root / file)


def file_state(path: Path) -> str:
    """Of a file: its size and when it changed."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def class_folders(root: Path) -> dict[str, frozenset[str]]:
    """The names of the class folders of each split that the folder itself names; empty where it names none."""
    with os_errors("read", root):
        splits = _folders(root)
        if not splits or not all(name in SPLIT_NAMES for name in splits):
            return {}
        return {SPLIT_NAMES[name]: frozenset(_folders(root / name)) for name in splits}


def endings(root: Path) -> frozenset[str]:
    """The endings of all files below the folder."""
    with os_errors("read", root):
        return frozenset(os.path.splitext(name)[1].lower() for name in _below(root, ""))  # noqa: PTH122


def _groups(root: Path, suffixes: tuple[str, ...]) -> Iterator[_Group]:
    folders = _folders(root)
    if folders and all(name in SPLIT_NAMES for name in folders):
        for name in folders:
            yield from _classes(root, name, SPLIT_NAMES[name], suffixes)
    else:
        yield from _classes(root, "", "", suffixes)


def _classes(root: Path, within: str, split: str, suffixes: tuple[str, ...]) -> Iterator[_Group]:
    """One group per folder in `within`, an empty one too, or one without a label where files alone lie in it.

    A folder that holds files of other kinds only is no class.
    """
    place = root / within
    alone = tuple(
        str(Path(within, entry.name))
        for entry in _entries(place)
        if entry.is_file() and entry.name.lower().endswith(suffixes)
    )
    groups = []
    for name in _folders(place):
        below = tuple(_below(root, str(Path(within, name))))
        files = tuple(f for f in below if f.lower().endswith(suffixes))
        # 0 … 10 in alphabetical order would be 0, 1, 10, 2: a folder called by a number is that class
        if files or not below:
            groups.append(_Group(split, int(name) if name.isdecimal() else name, files))
    if alone and any(group.files for group in groups):
        what = f"{place} holds files beside folders of files"
        raise InputError(what, f"{alone[0]} is in no class", "move it into one, or name one of the folders")
    yield from groups if not alone else ()
    if alone:
        yield _Group(split, None, alone)


def _below(root: Path, within: str) -> Iterator[str]:
    """Every file at any depth, relative to the root, in alphabetical order; hidden ones are left out."""
    for folder, inner, files in os.walk(root / within):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118


def _entries(place: Path) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _folders(place: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in _entries(place) if entry.is_dir())
