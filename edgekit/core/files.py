"""Atomic writes, syncing, and sha256 of files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file in one step: readers see the old content or the new. Text is written as UTF-8; a device or a
    pipe is written as it is.

    Raises NoSpace, NoPermission or InputError; nothing is left of the new content then.
    """
    raw = content.encode() if isinstance(content, str) else content
    with os_errors("write", path):
        if path.exists() and not path.is_file():
            with suppress(BrokenPipeError):  # its reader has read enough
                path.write_bytes(raw)
            return
        with replacing(path) as part:
            part.write_bytes(raw)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file replaces `path` in one step at the end; after an error it is deleted.

    A link stays: the file that it names is replaced.
    """
    target = path.resolve() if path.is_symlink() else path
    part = new_part(target)
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        sync(part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def new_part(path: Path) -> Path:
    """Where to write a file before it is renamed. What is there is removed, so that no link is followed."""
    part = path.with_name(f".{path.name}.part")
    with os_errors("write", path):
        part.unlink(missing_ok=True)
    return part


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def utf8_text(path: Path) -> str:
    """The text of a file. Raises InputError if it cannot be read, or is not UTF-8."""
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 text (byte {error.start})"
        raise InputError(f"cannot read {path}", why, "save it as UTF-8") from error
