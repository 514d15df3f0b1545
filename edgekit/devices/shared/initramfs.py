"""An initramfs for Linux: a cpio archive in the "newc" format (the kernel's buffer-format.rst)."""

from __future__ import annotations

from collections.abc import Iterable

FOLDER, FILE = 0o040000, 0o100000


def archive(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """(path, mode, content) of each entry, folders before their content → the archive, owned by root."""
    parts = [_entry(number, *entry) for number, entry in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1)]
    return b"".join(parts)


def _entry(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, four device numbers, length of the name, checksum
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
