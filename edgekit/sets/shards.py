"""WebDataset shards: tar files in which consecutive members that differ only in their suffix form one sample.

`000017.jpg`, `000017.cls` → sample 000017. Images, sounds and .npy are inputs (`left.png` and `right.png` are two,
named left and right); .cls (a class index), .txt (text) and .json (its field `label`, or the option's) are the label.
Reading uses the standard library's tarfile, because the webdataset package's decoders unpickle.
"""

from __future__ import annotations

import glob
import io
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
from edgekit.core.json import parse
from edgekit.core.signature import InputSignature
from edgekit.sets import audio, images
from edgekit.sets.folder import file_state
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.reading import Item, UnreadableSample

SUFFIXES = (".tar", ".tar.gz", ".tgz")
LABELS = (".cls", ".txt", ".json")

#: larger members are not read: a compressed archive can claim any size
MAX_MEMBER_BYTES = 2**30

_DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error)


class Shards:
    """`spec`: one tar file, a pattern with `*`, or a range `shards-{000..003}.tar`. Raises InputError, Missing."""

    #: whether items need random access (`Item.reread`)
    stream = False

    def __init__(self, spec: str, options: Options, model_inputs: Sequence[TensorSpec]) -> None:
        self._spec, self._options, self._model_inputs = spec, options, model_inputs
        self._paths = expand_paths(spec)
        self._states: dict[Path, str] = {}
        self._decoders: dict[str, images.ImageDecoder | audio.AudioDecoder] = {}
        self.count: int | None = None
        self.splits: frozenset[str] = frozenset()
        self.labelled = any(item.label is not None for item, _ in zip(self, range(16), strict=False))

    def __iter__(self) -> Iterator[Item]:
        for path in self._paths:
            if self.stream and path.is_file():
                self._states[path] = file_state(path)
            yield from self._shard(path)

    def decoded(self) -> Mapping[str, InputSignature]:
        entries = self._decoders.items()
        return {name or key: record for name, each in entries for key, record in each.decoded().items()}

    def notes(self) -> tuple[str, ...]:
        return tuple(note for decoder in self._decoders.values() for note in decoder.notes())

    def _shard(self, path: Path) -> Iterator[Item]:
        key, previous_key = "", "its beginning"
        members: dict[str, tarfile.TarInfo] = {}
        with os_errors("read", path), path.open("rb") as file:
            try:
                with tarfile.open(fileobj=file, mode="r:*") as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]  # it would keep all members in memory
                        if not member.isfile():
                            continue
                        name = PurePosixPath(member.name)
                        stem, _, ending = name.name.partition(".")
                        stem = str(name.parent / stem)
                        if stem != key and members:
                            yield self._item(path, tar, key, members)
                            previous_key, members = key, {}
                        key = stem
                        members[f".{ending.lower()}"] = member
                    _check_end(tar)
                    if members:
                        yield self._item(path, tar, key, members)
            except _DAMAGED as error:
                yield _unreadable_item(path, key or previous_key, str(error) or "it is damaged")

    def _item(self, path: Path, tar: tarfile.TarFile, key: str, members: Mapping[str, tarfile.TarInfo]) -> Item:
        name = f"{key} in {path}"
        try:
            label = self._label(tar, members)
        except UnreadableSample as error:
            return _unreadable_item(path, key, str(error))

        def read() -> Mapping[str, NDArray[Any]]:
            return self._read(lambda ending: _bytes(tar, members[ending]), name, members)

        if not self.stream or path.suffix != ".tar":  # a compressed one can only be read in order
            return Item(name, key, label, read)
        offsets = {ending: (member.offset_data, member.size) for ending, member in members.items()}
        reread = partial(self._reread, path, name, offsets)
        return Item(name, key, label, read, reread=reread, state=f"{self._states[path]} {offsets}")

    def _reread(self, path: Path, name: str, offsets: Mapping[str, tuple[int, int]]) -> Mapping[str, NDArray[Any]]:
        """A sample of an uncompressed shard, by its offsets."""
        with os_errors("read", path), path.open("rb") as file:

            def fetch(ending: str) -> bytes:
                start, size = offsets[ending]
                file.seek(start)
                raw = file.read(size) if size <= MAX_MEMBER_BYTES else b""
                if len(raw) != size:
                    raise UnreadableSample(f"{ending} is truncated")
                return raw

            return self._read(fetch, name, offsets)

    def _label(self, tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> Raw | None:
        for ending in LABELS:
            if ending not in members:
                continue
            try:
                text = _bytes(tar, members[ending]).decode("utf-8").strip()
                if ending == ".json":
                    label = parse(text)
                    label = label.get(self._options.label or "label") if isinstance(label, dict) else label
                else:
                    label = int(text) if ending == ".cls" else text
            except ValueError as error:
                raise UnreadableSample(f"its {ending} cannot be read: {error}") from error
            if label is not None:
                return _parse_label(label)
        return None

    def _read(self, fetch: Callable[[str], bytes], name: str, members: Iterable[str]) -> Mapping[str, NDArray[Any]]:
        """The inputs among the members with these suffixes; `fetch` gives a member's bytes."""
        values: dict[str, NDArray[Any]] = {}
        for ending in members:
            suffix = f".{ending.rpartition('.')[2]}"
            input_name = ending.removesuffix(suffix).removeprefix(".")
            if suffix == ".npy":
                values[input_name or self._single_input("input")] = _array(fetch(ending))
            elif suffix in images.SUFFIXES or suffix in audio.SUFFIXES:
                decoder = self._decoder(input_name, suffix)
                values[input_name or decoder.input] = decoder(io.BytesIO(fetch(ending)), name)
        if not values:
            raise UnreadableSample(f"it holds no input, only {', '.join(members)}")
        return values

    def _single_input(self, default: str) -> str:
        return self._model_inputs[0].name if len(self._model_inputs) == 1 else default

    def _decoder(self, input_name: str, suffix: str) -> images.ImageDecoder | audio.AudioDecoder:
        """One decoder per input, because each input has its own shape."""
        if input_name not in self._decoders:
            model_inputs = [spec for spec in self._model_inputs if spec.name == input_name] or self._model_inputs
            decoder_class = audio.AudioDecoder if suffix in audio.SUFFIXES else images.ImageDecoder
            self._decoders[input_name] = decoder_class(self._spec, self._options, model_inputs)
        return self._decoders[input_name]


def expand_paths(spec: str) -> tuple[Path, ...]:
    """The shards in order. Raises InputError if no file matches the pattern."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", spec)
    if match:
        first, last = match.groups()
        numbers = range(int(first), int(last) + 1)
        return tuple(Path(f"{spec[: match.start()]}{n:0{len(first)}}{spec[match.end() :]}") for n in numbers)
    paths = tuple(map(Path, sorted(glob.glob(spec)))) if "*" in spec else (Path(spec),)  # noqa: PTH207
    if not paths:
        raise InputError(f"no file matches {spec}", f"looked in {Path.cwd()}", "check the pattern")
    return paths


def _check_end(tar: tarfile.TarFile) -> None:
    """An archive ends in zeros, which tarfile does not check. Raises ReadError if they are missing."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is truncated")


def _unreadable_item(path: Path, key: str, why: str) -> Item:
    def fail() -> Mapping[str, NDArray[Any]]:
        raise UnreadableSample(why)

    return Item(f"{key} in {path}", key, None, fail)


def _parse_label(label: Any) -> Raw:
    """A label from JSON. Raises UnreadableSample for other values."""
    numbers = label if isinstance(label, list) else [label]
    if isinstance(label, str):
        return label
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) and abs(n) < 2**63 for n in numbers):
        raise UnreadableSample(f"its label is {label!r}")
    if isinstance(label, list):
        return tuple(map(float, label))
    return int(label) if isinstance(label, bool) else label


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A member's contents. Raises UnreadableSample if they are truncated, or too large."""
    if member.size > MAX_MEMBER_BYTES:
        raise UnreadableSample(f"{member.name} claims {member.size} bytes")
    try:
        file = tar.extractfile(member)
        raw = file.read() if file else b""
    except _DAMAGED as error:
        raise UnreadableSample(f"{member.name} is truncated: {error}") from error
    if len(raw) != member.size:
        raise UnreadableSample(f"{member.name} is truncated")
    return raw


def _array(raw: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which may raise any error
        raise UnreadableSample(f"not a plain .npy: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UnreadableSample("not a .npy of numbers")
    return array
