"""Files written whole, synced, and known by their sha256."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from edgekit.core.errors import os_errors


def sha256(path: Path) -> str:
    """Of a file's content, read once for as long as its size and time stay. Raises InputError: it cannot be read."""
    with os_errors("read", path):
        found = path.stat()
        return _sha256(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=4096)
def _sha256(path: Path, modified: int, size: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """The file is replaced whole: readers see the old text or the new."""
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
    """Have the system write a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
