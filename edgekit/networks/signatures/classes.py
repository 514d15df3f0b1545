"""Class names from where users have them: folders, a list in a file, or a list in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.core import user_code
from edgekit.core.errors import InputError
from edgekit.core.files import utf8_text
from edgekit.core.json import parse

FORMS = "name a folder with one folder per class, a .txt with one name per line, a .json list, or code: data.py:CLASSES"


def read(source: str) -> tuple[str, ...]:
    """The class names by index. A folder's are in alphabetical order, as in torchvision's ImageFolder.

    Raises InputError for what holds no names.
    """
    path = Path(source)
    if path.is_dir():
        names: Any = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    elif path.suffix in (".txt", ".names", ".labels"):
        names = [line.strip() for line in utf8_text(path).splitlines() if line.strip()]
    elif path.suffix == ".json":
        names = _json(path)
    elif user_code.is_reference(source):
        value = user_code.resolve(source)
        names = list(value) if isinstance(value, list | tuple) else value
    else:
        raise InputError(f"{source!r} names no classes", "there is no such file, folder or code", FORMS)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{source} holds no list of names", f"it holds {names!r}"[:100], FORMS)
    return tuple(names)


def _json(path: Path) -> Any:
    """A list, or a table from index to name, as `id2label`."""
    try:
        value = parse(utf8_text(path))
        table = value.get("id2label", value) if isinstance(value, dict) else None
        if isinstance(table, dict):
            value = [table[str(index)] for index in range(len(table))]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} holds no list of names", f"it is not one: {error}", FORMS) from error
    return value
