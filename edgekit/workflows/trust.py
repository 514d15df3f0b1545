"""`trust`: record that the user trusts a folder's settings, or code of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core import paths, user_code
from edgekit.core import trust as trusted
from edgekit.core.config import read_toml
from edgekit.core.errors import InputError, os_errors, suggest
from edgekit.networks import signatures


@dataclass(frozen=True)
class Look:
    """What edgekit would use of a folder: its files, their digest, and lines that show them."""

    folder: Path
    digest: str
    files: tuple[Path, ...]
    lines: tuple[str, ...]


def look(folder: Path) -> Look:
    """The digest is taken first: what changes while it is shown is not trusted. Raises InputError."""
    with os_errors("read", folder):
        digest, files = trusted.digest(folder), tuple(trusted.files(folder))
        lines = tuple(_printable(line) for path in files for line in _shown(path, folder))
    return Look(folder, digest, files, lines)


def trust(shown: Look) -> None:
    """Trust the folder as it was shown. Raises InputError if that cannot be recorded."""
    with trusted.changed() as record:
        record.folders[str(shown.folder)] = shown.digest


def trust_code(reference: str) -> str:
    """Allow the code that a reference names to run where a file names it; returns its place."""
    place = user_code.place(reference)
    if not signatures.is_code(reference):
        raise InputError(f"{reference!r} names no code", "there is no such module", "write net.py:Net")
    file = Path(reference.rpartition(":")[0])
    if file.suffix == ".py" and not file.is_file():
        raise InputError(f"there is no file {file}", f"looked for it in {Path.cwd()}", "check the path")
    with trusted.changed() as record:
        record.code = sorted({*record.code, place})
    return place


def is_code(what: str) -> bool:
    """Is this a reference to code, and no folder?"""
    return ":" in what and not Path(what).is_dir()


def folder_of(what: str) -> Path:
    """The absolute folder. Raises InputError if there is none."""
    if not Path(what).is_dir():
        raise InputError(f"there is no folder {what}", next="name a folder, or code: net.py:Net")
    return Path(what).resolve()


def remove(what: str) -> str:
    """Trust a folder or code no longer; returns its recorded place. Raises InputError if it was not trusted."""
    with trusted.changed() as record:
        known = (*record.folders, *record.code)
        names = (what, user_code.place(what) if is_code(what) else str(Path(what).resolve()))
        place = next((name for name in names if name in known), None)
        if place is None:
            raise InputError(f"{what} is not trusted", next=suggest(names[1], known) or "edgekit trust --list")
        record.folders.pop(place, None)
        record.code = [name for name in record.code if name != place]
    return place


def listed() -> list[dict[str, Any]]:
    """Folders, with whether they have changed since, and code."""
    record = trusted.read()
    states = {folder: "trusted" if trusted.is_trusted(Path(folder)) else "changed" for folder in record.folders}
    folders = [{"what": folder, "kind": "folder", "state": state} for folder, state in sorted(states.items())]
    return [*folders, *({"what": place, "kind": "code", "state": "code"} for place in sorted(record.code))]


def _shown(path: Path, folder: Path) -> Iterator[str]:
    """The settings whole, of the other files what they are."""
    name = path.relative_to(folder)
    if path.name == trusted.SETTINGS and path.parent == folder:
        yield f"{name}:"
        yield from (f"    {line}" for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
        return
    note = ", in place of the shipped one" if path.stem in paths.shipped_names(path.parent.name) else ""
    try:
        table = read_toml(path)
    except InputError as error:
        yield f"{name}: {error.why}"
        return
    facts = {key: table[key] for key in ("device", "address", "libraries", "task", "source", "targets") if key in table}
    yield f"{name}: " + ", ".join(f"{key} {value!r}" for key, value in facts.items()) + note


def _printable(line: str) -> str:
    """Without what could move a terminal's cursor, or hide a part."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)
