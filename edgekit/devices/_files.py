"""The sha256 of a file, computed once for as long as the file stays the same."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from edgekit.errors import os_errors


def sha256(path: Path) -> str:
    """Raises InputError where it cannot be read."""
    with os_errors("read", path):
        found = path.stat()
        return _sha256(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=4096)
def _sha256(path: Path, modified: int, size: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
