"""`clean`: delete what edgekit made in a run folder."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.errors import os_errors
from edgekit.runs import written
from edgekit.runs.store import Store


def is_run(folder: Path) -> bool:
    """Has this folder a record of files that edgekit wrote? A link is no run folder: what it leads to is one."""
    return folder.is_dir() and not folder.is_symlink() and bool(written.read(folder))


def clean(folder: Path) -> list[str]:
    """Delete what edgekit wrote in a run folder, and the folder if it is then empty; returns the names that are left.

    A file that was changed since edgekit wrote it is left, too.
    """
    with Store(folder).lock(), os_errors("delete", folder):
        names = list(written.read(folder))
        written.remove(folder)
        (folder / written.FILE).unlink()  # last: a clean that is killed can be finished
        left = written.user_files(folder, names)
        if not left:
            folder.rmdir()
    return left
