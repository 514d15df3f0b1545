"""Private temporary folders: removed after use, or by a later command if the process was killed.

Each is `edgekit-PROCESS-XXXXXXXX/` in the system's temporary folder (see TMPDIR), mode 0700. It holds `files/` and a
lock file that its process keeps locked; the kernel releases the lock when the process ends for any reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.core.errors import os_errors

PREFIX = "edgekit-"
#: only a folder with this file is edgekit's
LOCK = ".edgekit-lock"
FILES = "files"
#: this process's folders are known by their name: an interrupt may come between making one and noting it
_OWN = f"{PREFIX}{os.urandom(4).hex()}-"

#: where this process makes such folders
_places: set[Path] = set()


class TemporaryFolder:
    """`path` is removed by `remove`, with this object, or when the process ends, whichever is first.

    `place`: another folder than the system's. Raises NoSpace, NoPermission.
    """

    def __init__(self, place: Path | None = None) -> None:
        place = place or Path(tempfile.gettempdir())
        with os_errors("write", place):
            if place not in _places:
                _places.add(place)
                sweep(place)
            root, descriptor = _locked(place)
            self.path = root / FILES
            self._cleanup = weakref.finalize(self, _remove, root, descriptor, os.getpid())
            self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        self._cleanup()


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """A folder for the block; `place`: in another folder than the system's. Raises NoSpace, NoPermission."""
    folder = TemporaryFolder(place)
    try:
        yield folder.path
    finally:
        folder.remove()


def sweep(place: Path) -> None:
    """Remove the temporary folders in `place` that this user's dead processes have left; links are not followed."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_stale(Path(entry.path))


def remove_all() -> None:
    """Remove every folder of this process, which is about to end."""
    for place in tuple(_places):
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(_OWN):
                    _delete(Path(entry.path))


def _locked(place: Path) -> tuple[Path, int]:
    """A new folder in `place` and the descriptor of its lock."""
    while True:
        root = Path(tempfile.mkdtemp(prefix=_OWN, dir=place))
        with suppress(FileNotFoundError):
            descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            with suppress(OSError):  # a file system without locks has no stale folders either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if (root / LOCK).exists():
                return root, descriptor
            os.close(descriptor)  # another process took it for a stale one before it was locked


def _remove(root: Path, descriptor: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child shares the folder with its parent
        _delete(root)
    os.close(descriptor)


def _delete(root: Path) -> None:
    """The lock file goes last: what a child process is still writing to is left to a later command."""
    files = root / FILES
    shutil.rmtree(files, ignore_errors=True)
    if files.is_symlink() or not files.exists():
        shutil.rmtree(root, ignore_errors=True)


def _remove_if_stale(root: Path) -> None:
    """Raises OSError if a process holds its lock, or it is not edgekit's."""
    if root.lstat().st_uid != os.geteuid():
        return
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _delete(root)
    finally:
        os.close(descriptor)
