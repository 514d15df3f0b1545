"""What the user trusts, recorded in `trust.json` of the user's state folder, which only the user can read and write.

A working folder may hold defaults (`edgekit.toml`), `targets/`, `calibration/` and `recipes/`. They are used once the
user has trusted the folder, and until one of these files changes, as direnv does. Code of the user's own that a file
names (`net.py:Net`) is run if the user has named it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.errors import InputError, os_errors
from edgekit.core.files import sha256, write_atomically

SETTINGS = "edgekit.toml"

#: the folders of members that a working folder may hold
KINDS = ("targets", "calibration", "recipes")


@dataclass
class Record:
    """`folders`: absolute path → digest of its files. `code`: references with their absolute place."""

    folders: dict[str, str]
    code: list[str]


def file() -> Path:
    from platformdirs import user_state_path

    return user_state_path("edgekit") / "trust.json"


def read() -> Record:
    """What is trusted so far. Raises InputError where the record is damaged."""
    path = file()
    if not path.is_file():
        return Record({}, [])
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        data = json.loads(raw)
        folders, code = dict(data["folders"]), list(data["code"])
        if not all(isinstance(text, str) for text in (*folders, *folders.values(), *code)):
            raise ValueError("it must hold strings")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged", str(error), "delete it, and trust your folders again") from error
    return Record(folders, code)


@contextmanager
def changed() -> Iterator[Record]:
    """The record to change, which is written at the end. Raises InputError or OSError where it cannot be."""
    from filelock import FileLock

    path = file()
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        with FileLock(path.with_suffix(".lock"), mode=0o600):
            record = read()
            yield record
            write_atomically(path, json.dumps({"folders": record.folders, "code": record.code}, indent=1) + "\n")
            path.chmod(0o600)


def files(folder: Path) -> list[Path]:
    """The files of a working folder that edgekit would use; not those behind links that lead out of it."""
    members = (path for kind in KINDS for path in sorted((folder / kind).glob("*.toml")))
    return [path for path in (folder / SETTINGS, *members) if path.is_file() and is_inside(path, folder)]


def is_inside(path: Path, folder: Path) -> bool:
    """Does the path stay in the folder where all links are followed?"""
    return path.resolve().is_relative_to(folder.resolve())


def digest(folder: Path) -> str:
    """sha256 of the names and contents of `files(folder)`."""
    lines = (f"{path.relative_to(folder).as_posix()!r} {sha256(path)}\n" for path in files(folder))
    import hashlib

    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_trusted(folder: Path) -> bool:
    """Has the user trusted the folder with the files that it holds now?"""
    known = read().folders.get(str(folder.resolve()))
    return known is not None and known == digest(folder)
