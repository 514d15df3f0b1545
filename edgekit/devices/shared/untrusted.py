"""What a device sent, bounded and checked before it is used or shown: a device may be hostile, broken or half dead.

Every function raises ValueError with a sentence that says what is wrong.
"""

from __future__ import annotations

import json
import math
import re
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.config import build
from edgekit.core.errors import DeviceError

T = TypeVar("T")

#: an object of an answer has no more keys, and no longer ones
MOST_KEYS, LONGEST_KEY = 64, 200
#: bytes of a `.npy` header, and axes of an array, which numpy itself accepts
HEADER_BYTES, MOST_AXES = 10_000, 32
#: numpy's and the parser's errors for bytes that are no array
NOT_AN_ARRAY = (
    *(ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError, EOFError, OSError),
    *(tokenize.TokenError, zipfile.BadZipFile, NotImplementedError, OverflowError),
)


def shown(text: object, most: int = 200) -> str:
    """One line of at most `most` characters for a message: no control characters, no escape codes."""
    start = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in start[: 4 * most]).split())
    return line if len(line) <= most and len(start) <= 4 * most else line[: most - 1] + "…"


def invalid(name: str, why: object) -> DeviceError:
    """The error for an answer of the device `name` that cannot be used."""
    return DeviceError(f"{name} sent an invalid result", shown(why, 300), "run it again; is its storage failing?")


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object: UTF-8, not nested deeply, every number finite."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def record(cls: type[T], table: Mapping[str, Any]) -> T:
    """The frozen dataclass `cls` from an object with exactly its fields, of their types."""
    if len(table) > MOST_KEYS or any(len(key) > LONGEST_KEY for key in table):
        raise ValueError(f"it has {len(table)} keys; at most {MOST_KEYS} short ones are expected")
    made, problems = build(cls, table, "")
    if made is None:
        raise ValueError(shown(f"{problems[0].where.lstrip('.')} {problems[0].what}".strip()))
    return made


def array_bytes(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type of a `.npy` file of numbers, whose size is exactly what its header says; nothing is loaded."""
    with path.open("rb") as file:
        shape, dtype = _header(file)
        size = math.prod(shape) * dtype.itemsize
        actual = path.stat().st_size - file.tell()
        if actual != size:
            raise ValueError(f"{path.name} has {actual} bytes of data, and its header says {size}")
    return shape, dtype


def archive_arrays(path: Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` file, if they hold at most `most_bytes` in all, by its directory and by their headers."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_KEYS or sum(member.file_size for member in members) > most_bytes:
                raise ValueError(f"{path.name} holds more than {most_bytes / 1e6:,.0f} MB or {MOST_KEYS} arrays")
            for member in members:
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                    if math.prod(shape) * dtype.itemsize > member.file_size:
                        raise ValueError(f"{shown(member.filename)} is smaller than its header says")
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    except NOT_AN_ARRAY as error:
        raise ValueError(shown(error) or type(error).__name__) from error
    return arrays


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type in the header of a `.npy` file, which is left at its data."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"a .npy file of version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=HEADER_BYTES)
    except NOT_AN_ARRAY as error:
        raise ValueError(f"it is not a .npy file: {shown(error) or type(error).__name__}") from error
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"an array of {shown(dtype)}: only numbers and booleans are expected")
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shown(shape)}")
    return shape, dtype


def plain(name: str) -> bool:
    """Is it the plain name of a file, in any folder of any file system?"""
    return bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name))


def _constant(text: str) -> float:
    raise ValueError(f"it contains {text}, which is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it contains {shown(text, 20)}, which is too large")
    return value
