"""Arrays that a device sent, whose headers are checked before anything is allocated; pickled objects are refused.

Every function raises ValueError with a sentence that says what is wrong.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.devices.shared.untrusted import shown

#: bytes of a `.npy` header, and axes of an array, which numpy itself accepts
HEADER_BYTES, MOST_AXES = 10_000, 32
#: arrays of an archive
MOST_ARRAYS = 64
#: numpy's and the parser's errors for bytes that are no array
NOT_AN_ARRAY = (
    *(ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError, EOFError, OSError),
    *(tokenize.TokenError, zipfile.BadZipFile, NotImplementedError, OverflowError),
)


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
            if len(members) > MOST_ARRAYS or sum(member.file_size for member in members) > most_bytes:
                raise ValueError(f"{path.name} holds more than {most_bytes / 1e6:,.0f} MB or {MOST_ARRAYS} arrays")
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
