"""WebDataset shards: tar files in which neighbouring members that differ in their ending are one sample.

`000017.jpg`, `000017.cls` → sample 000017. Endings: images, sounds and .npy are inputs (`left.png`, `right.png` make
two, called left and right); .cls (a class index), .txt (text) and .json (its field `label`, or the option's) the label.
Read with the standard library's tarfile and without unpacking: the webdataset package's own decoders unpickle.
"""

from __future__ import annotations

import glob
import io
import json
import math
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, os_errors
from edgekit.sets import audio, images
from edgekit.sets.folder import file_state
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.reading import Item, UnreadableSample

SUFFIXES = (".tar", ".tar.gz", ".tgz")
LABELS = (".cls", ".txt", ".json")

#: bytes above which a member is not read: a small archive can claim to hold anything
LARGEST = 2**30

_DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error)


class Shards:
    """`word`: one tar file, a pattern with `*`, or a range `shards-{000..003}.tar`. Raises InputError, Missing."""

    #: is it to be read in any order?
    stream = False

    def __init__(self, word: str, options: Options, like: Sequence[TensorSpec]) -> None:
        self._word, self._options, self._like = word, options, like
        self._paths = expanded(word)
        self._states: dict[Path, str] = {}
        self._decoders: dict[str, images.Picture | audio.Clip] = {}
        self.count: int | None = None
        self.splits: frozenset[str] = frozenset()
        self.labelled = any(item.label is not None for item, _ in zip(self, range(16), strict=False))

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            if self.stream and path.is_file():
                self._states[path] = file_state(path)
            yield from self._shard(path)

    def _shard(self, path: Path) -> Iterator[Item]:
        key, last = "", "its beginning"
        members: dict[str, tarfile.TarInfo] = {}
        with os_errors("read", path), path.open("rb") as file:
            try:
                with tarfile.open(fileobj=file, mode="r:*") as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]  # it would keep every member it has seen
                        if not member.isfile():
                            continue
                        name = PurePosixPath(member.name)
                        stem, _, ending = name.name.partition(".")
                        stem = str(name.parent / stem)
                        if stem != key and members:
                            yield self._item(path, tar, key, members)
                            last, members = key, {}
                        key = stem
                        members[f".{ending.lower()}"] = member
                    _check_end(tar)
                    if members:
                        yield self._item(path, tar, key, members)
            except _DAMAGED as error:
                yield _broken(path, key or last, str(error) or "it is damaged")

    def _item(self, path: Path, tar: tarfile.TarFile, key: str, members: Mapping[str, tarfile.TarInfo]) -> Item:
        name = f"{key} in {path}"
        try:
            label = self._label(tar, members)
        except UnreadableSample as error:
            return _broken(path, key, str(error))

        def read() -> Mapping[str, NDArray[Any]]:
            return self._read(lambda ending: _bytes(tar, members[ending]), name, members)

        if not self.stream or path.suffix != ".tar":  # a packed one can only be read in order
            return Item(name, key, label, read)
        places = {ending: (member.offset_data, member.size) for ending, member in members.items()}
        again = partial(self._again, path, name, places)
        return Item(name, key, label, read, again=again, state=f"{self._states[path]} {places}")

    def _again(self, path: Path, name: str, places: Mapping[str, tuple[int, int]]) -> Mapping[str, NDArray[Any]]:
        """A sample from where it lies in a shard that is not packed."""
        with os_errors("read", path), path.open("rb") as file:

            def fetch(ending: str) -> bytes:
                start, size = places[ending]
                file.seek(start)
                raw = file.read(size) if size <= LARGEST else b""
                if len(raw) != size:
                    raise UnreadableSample(f"{ending} is cut off")
                return raw

            return self._read(fetch, name, places)

    def _label(self, tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> Raw | None:
        for ending in LABELS:
            if ending not in members:
                continue
            try:
                text = _bytes(tar, members[ending]).decode("utf-8").strip()
                if ending == ".json":
                    found = json.loads(text)
                    found = found.get(self._options.label or "label") if isinstance(found, dict) else found
                else:
                    found = int(text) if ending == ".cls" else text
            except (ValueError, RecursionError) as error:
                raise UnreadableSample(f"its {ending} cannot be read: {error}") from error
            if found is not None:
                return _as_label(found)
        return None

    def _read(self, fetch: Callable[[str], bytes], name: str, members: Iterable[str]) -> Mapping[str, NDArray[Any]]:
        """The inputs among the members that have these endings; `fetch` gives one's bytes."""
        values: dict[str, NDArray[Any]] = {}
        for ending in members:
            suffix = f".{ending.rpartition('.')[2]}"
            given = ending.removesuffix(suffix).removeprefix(".")
            if suffix == ".npy":
                values[given or self._only("input")] = _array(fetch(ending))
            elif suffix in images.SUFFIXES or suffix in audio.SUFFIXES:
                decoder = self._decoder(given, suffix)
                values[given or decoder.input] = decoder(io.BytesIO(fetch(ending)), name)
        if not values:
            raise UnreadableSample(f"it holds no input, only {', '.join(members)}")
        return values

    def _only(self, otherwise: str) -> str:
        return self._like[0].name if len(self._like) == 1 else otherwise

    def _decoder(self, given: str, suffix: str) -> images.Picture | audio.Clip:
        """One decoder per input, so that each is of one shape."""
        if given not in self._decoders:
            like = [spec for spec in self._like if spec.name == given] or self._like
            made = audio.Clip if suffix in audio.SUFFIXES else images.Picture
            self._decoders[given] = made(self._word, self._options, like)
        return self._decoders[given]


def expanded(word: str) -> tuple[Path, ...]:
    """The shards in order. Raises InputError where the pattern fits none."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", word)
    if found:
        first, last = found.groups()
        numbers = range(int(first), int(last) + 1)
        return tuple(Path(f"{word[: found.start()]}{n:0{len(first)}}{word[found.end() :]}") for n in numbers)
    paths = tuple(map(Path, sorted(glob.glob(word)))) if "*" in word else (Path(word),)  # noqa: PTH207
    if not paths:
        raise InputError(f"no file is called {word}", f"looked in {Path.cwd()}", "check the pattern")
    return paths


def _check_end(tar: tarfile.TarFile) -> None:
    """An archive ends in zeros; tarfile takes one that merely stops for whole. Raises ReadError."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end")


def _broken(path: Path, key: str, why: str) -> Item:
    def fail() -> Mapping[str, NDArray[Any]]:
        raise UnreadableSample(why)

    return Item(f"{key} in {path}", key, None, fail)


def _as_label(found: Any) -> Raw:
    """What JSON may hold. Raises Corrupt for what is no label."""
    numbers = found if isinstance(found, list) else [found]
    if isinstance(found, str):
        return found
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) and abs(n) < 2**63 for n in numbers):
        raise UnreadableSample(f"its label is {found!r}")
    if isinstance(found, list):
        return tuple(map(float, found))
    return int(found) if isinstance(found, bool) else found


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A member's contents. Raises Corrupt where they are cut off, or too many."""
    if member.size > LARGEST:
        raise UnreadableSample(f"{member.name} claims {member.size} bytes")
    try:
        file = tar.extractfile(member)
        raw = file.read() if file else b""
    except _DAMAGED as error:
        raise UnreadableSample(f"{member.name} is cut off: {error}") from error
    if len(raw) != member.size:
        raise UnreadableSample(f"{member.name} is cut off")
    return raw


def _array(raw: bytes) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception as error:  # numpy reads the header as Python: whatever its tokenizer and parser raise
        raise UnreadableSample(f"not a plain .npy: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise UnreadableSample("not a .npy of numbers")
    return found
