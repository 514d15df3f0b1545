"""Atomic writes, syncing, and sha256 of files."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, os_errors

if TYPE_CHECKING:
    from zipfile import ZipFile


#: an archive that unpacks to more bytes than this, and to so many times its own size, was made to fill the memory
LARGE, MOST_TIMES = 1 << 28, 100


def check_unpacked(path: Path, archive: ZipFile, next: str) -> None:
    """Raises InputError for an archive whose members are far larger than the file; `next` is the advice."""
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(LARGE, MOST_TIMES * size):
        raise InputError(f"cannot read {path}", f"its {size:,} bytes unpack to {unpacked:,}", next)


def sha256(path: Path) -> str:
    """Cached by modification time, size and inode. Raises InputError if the file cannot be read."""
    with os_errors("read", path):
        status = path.stat()
        return _sha256(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=4096)
def _sha256(path: Path, modified: int, size: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step: readers see the old text or the new."""
    part = path.with_name(f".{path.name}.part")
    with os_errors("write", path):
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
