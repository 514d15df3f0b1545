"""Arrays larger than memory: written sample by sample, then memory-mapped."""

from __future__ import annotations

import io
import mmap
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import os_errors
from edgekit.core.temporary import TemporaryFolder

#: arrays above this number of bytes are written to a file
IN_MEMORY = 16 * 2**20
CHUNK = 2**20


class MemmapWriter:
    """Arrays of one shape and dtype → one array with the sample as first axis.

    Up to IN_MEMORY bytes it is held in memory, above that in a `.npy` file in a temporary folder (see TMPDIR), which is
    deleted when no array uses it any more, or when the process ends.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._template: NDArray[Any] | None = None
        self._count = 0
        self._path: Path | None = None

    def fits(self, value: NDArray[Any]) -> bool:
        """Whether it has the shape and dtype of the first value."""
        return self._template is None or (value.shape, value.dtype) == (self._template.shape, self._template.dtype)

    def append(self, value: NDArray[Any]) -> None:
        """`value` must fit. Raises NoSpace."""
        assert self.fits(value)
        if self._template is None:
            self._template = value
        with os_errors("write", tempfile.gettempdir()):
            self._file.write(np.ascontiguousarray(value).data)
            self._count += 1
            if self._path is None and self._file.tell() > IN_MEMORY:
                self._move_to_disk()

    def array(self) -> NDArray[Any]:
        """All appended values: an array in memory, or a read-only np.memmap. Closes the writer."""
        assert self._template is not None, "nothing was appended"
        with self._file as file, os_errors("write", tempfile.gettempdir()):
            file.seek(0)
            if self._path is None:
                values = np.frombuffer(bytearray(file.read()), self._template.dtype)
                return values.reshape(self._count, *self._template.shape)
            self._write_header(file)
        array: NDArray[Any] = np.load(self._path, mmap_mode="r", allow_pickle=False)
        weakref.finalize(_mapping(array), self._folder.remove)
        return array

    def _move_to_disk(self) -> None:
        self._folder = TemporaryFolder()
        self._path = self._folder.path / "samples.npy"
        buffer, self._file = self._file, self._path.open("w+b")
        self._write_header(self._file)
        buffer.seek(0)
        shutil.copyfileobj(buffer, self._file)

    def _write_header(self, file: IO[bytes]) -> None:
        """The header's length does not depend on the count: numpy pads it."""
        assert self._template is not None
        descr, shape = np.lib.format.dtype_to_descr(self._template.dtype), (self._count, *self._template.shape)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The array in contiguous chunks of about CHUNK bytes; the pages of a mapped array are released after each."""
    rows = max(1, CHUNK // max(1, array.nbytes // max(1, len(array))))
    mapping = _mapping(array)
    for first in range(0, len(array), rows):
        yield np.ascontiguousarray(array[first : first + rows])
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapped file behind the array, if any."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) else None
