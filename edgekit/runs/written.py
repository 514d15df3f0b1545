"""The record of what edgekit wrote in a run folder, and the removal of that and of nothing else.

`RUN/.edgekit.sha256` has one line for every file that edgekit writes, as sha256sum prints it, added before the file is
written: "SHA256  NAME". "made  NAME" stands for a folder for temporary files, and for a file that grows (the log). A
file is edgekit's own if its name and its content are in the record. Every other is the user's: it is never deleted, and
is moved aside to `NAME.kept` where its name is needed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from edgekit.core import relative_paths
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError, os_errors
from edgekit.core.files import sha256, write_atomically
from edgekit.core.relative_paths import inside

FILE = ".edgekit.sha256"

#: in place of a sha256
MADE = "made"

KEPT = re.compile(r".+\.kept(-\d+)?")

#: the format of the log: other lines are somebody's notes
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |  |$")

#: how an SQLite database begins; an empty one has no bytes
SQLITE = b"SQLite format 3\0"

log = logging.getLogger("edgekit")


def read(run: Path) -> dict[str, set[str]]:
    """Name → the sha256 of every content that edgekit gave it, or "made"; empty for a folder without a record."""
    path, record = run / FILE, defaultdict[str, set[str]](set)
    if path.is_file() and not path.is_symlink():
        with os_errors("read", path):
            text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.split("\n"):
            word, separator, name = line.partition("  ")
            if separator and not relative_paths.problem(name):
                record[name].add(word)
    return record


def add(run: Path, contents: Mapping[str, str]) -> None:
    """Record name → sha256 (or "made") of files that are about to be written."""
    path = inside(run, FILE)
    with os_errors("write", path), path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{word}  {name}\n" for name, word in contents.items()))


def is_own(run: Path, name: str) -> bool:
    """Is this a file that edgekit wrote, and unchanged?"""
    return _is_unchanged(run, run / name, read(run).get(name, set()))


def write(run: Path, name: str, content: str | bytes) -> None:
    """Write a file of the run atomically, and record it. A file of the user's of that name is moved aside.

    Raises InputError if the name leads out of the run folder, NoSpace, NoPermission.
    """
    raw = content.encode() if isinstance(content, str) else content
    path = inside(run, name)
    if os.path.lexists(path) and not is_own(run, name):
        keep(path, path)
    add(run, {name: hashlib.sha256(raw).hexdigest()})
    write_atomically(path, raw)


def write_beside(artifact: Artifact, name: str, content: str | bytes) -> str:
    """As `write`, in the folder of an artifact; returns the name in the run folder."""
    name = f"{artifact.path.name}/{name}"
    write(artifact.path.parent, name, content)
    return name


def growing(run: Path, name: str) -> Path:
    """The path of a file that others add to: the log, a database. Recorded as edgekit's if it does not exist yet.

    Raises InputError if it is a link that leads out of the run folder.
    """
    path = inside(run, name)
    if not os.path.lexists(path):
        add(run, {name: MADE})
    return path


def temporary(run: Path, name: str) -> Path:
    """A new, empty folder for temporary files. Raises InputError if the user has one of that name."""
    path = run / name
    discard_temporary(run, name)
    add(run, {name: MADE})
    path.mkdir()
    return path


def is_temporary(run: Path, name: str, record: Mapping[str, Collection[str]], prefix: str = ".") -> bool:
    """Is it a folder for temporary files that edgekit made: right in the run folder, and no link?"""
    return (
        name.startswith(prefix) and "/" not in name and MADE in record.get(name, ()) and not (run / name).is_symlink()
    )


def discard_temporary(run: Path, name: str) -> None:
    """Delete a folder for temporary files, if edgekit made it."""
    if is_temporary(run, name, read(run)):
        shutil.rmtree(run / name, ignore_errors=True)


def remove(run: Path, name: str = "", at: Path | None = None) -> None:
    """Delete edgekit's own files: of the whole run, or the file or folder `name` (which may have been moved to `at`).

    The folders of these files are deleted if they are then empty.
    """
    record = read(run)
    names = [each for each in record if not name or each == name or each.startswith(f"{name}/")]
    places = {each: at / PurePosixPath(each).relative_to(name) if at else run / each for each in names}
    for each in sorted(names, key=lambda each: (not each.endswith("/artifact.json"), each)):  # it counts no more
        if _is_unchanged(run, places[each], record[each]):
            places[each].unlink()
        elif each.startswith((".making-", ".scratch-")):
            discard_temporary(run, each)
    folders = {parent for place in places.values() for parent in place.parents if run in parent.parents}
    for folder in sorted(folders, reverse=True):
        if not relative_paths.leads_out(run, folder):
            with suppress(OSError):
                folder.rmdir()


def keep(path: Path, wanted: Path) -> None:
    """Move what is not edgekit's from `path` to the first free name `WANTED.kept`, and say so."""
    numbers = ("", *(f"-{number}" for number in range(2, 1000)))
    kept = next(p for n in numbers if not os.path.lexists(p := wanted.with_name(f"{wanted.name}.kept{n}")))
    path.rename(kept)
    log.warning("%s is not as edgekit wrote it: moved to %s", wanted, kept)


def user_files(run: Path, names: Iterable[str]) -> list[str]:
    """What is left in a run folder whose record held these names; of folders that edgekit made, the files in them."""
    tops = {name.partition("/")[0] for name in names if "/" in name}
    left = []
    for path in sorted(run.iterdir()):
        below = [p for p in path.rglob("*") if p.is_symlink() or not p.is_dir()] if path.name in tops else []
        left += [str(p.relative_to(run)) for p in sorted(below)] or [path.name]
    return left


def check_lock(path: Path) -> None:
    """Raises InputError if the file is not a lock of edgekit's, which is empty: taking it would empty the user's."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file() or path.stat().st_size):
        why = "edgekit locks a folder with an empty file of that name"
        raise InputError(f"{path} is not edgekit's", why, "move it away, or choose another folder with --out")


def _is_unchanged(run: Path, path: Path, words: Collection[str]) -> bool:
    """Has the file a content that edgekit gave it? A link has not."""
    if not words or path.is_symlink() or not path.is_file() or relative_paths.leads_out(run, path):
        return False
    return sha256(path) in words or (MADE in words and _is_only_grown(path))


def _is_only_grown(path: Path) -> bool:
    """Has nobody but edgekit added to this file? It is the log, or an SQLite database."""
    with path.open("rb") as file:
        if path.suffix == ".db":
            return file.read(len(SQLITE)) in (b"", SQLITE)
        text = file.read().decode("utf-8", errors="replace")
    return all(LOG_LINE.match(line) for line in text.split("\n"))
