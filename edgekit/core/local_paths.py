"""Absolute paths of this machine, which name its user and its projects, stay out of what others may read.

A record keeps a path that it needs again relative to its run folder (`{run}/../data/pets`), so that both can be moved
or copied together. Of a path in a sentence only the name stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: begins a path relative to the run folder
RUN = "{run}/"

#: an option of a SET or a task whose value is a path: `?data=/home/ann/pets`
_OPTION = re.compile(r"([?&][\w-]+=)(/[^&?:]+)")
_RELATIVE_OPTION = re.compile(r"([?&][\w-]+=)(\{run\}/[^&?:]+)")

_ABSOLUTE = re.compile(r"(?<![\w.~:/-])/[^\s'\",;:()<>|?]+")


def portable(value: Any, run: Path) -> Any:
    """A JSON value whose strings that are absolute paths (also with options, `?…`, or a name, `:…`) are relative to
    the run folder.
    """
    real = _real(run)

    def relative(text: str) -> str:
        text = _relative(text, real) if _is_path(text) else text
        return _OPTION.sub(lambda m: m[1] + (_relative(m[2], real) if _exists(m[2]) else m[2]), text)

    return _mapped(value, relative)


def resolved(value: Any, run: Path) -> Any:
    """The value that `portable` was given; the run folder may be elsewhere now."""
    real = _real(run)

    def joined(text: str) -> str:
        text = _joined(text, real) if text.startswith(RUN) else text
        return _RELATIVE_OPTION.sub(lambda m: m[1] + _joined(m[2], real), text)

    return _mapped(value, joined)


def names_only(value: Any) -> Any:
    """A JSON value in whose strings a path below the working or home directory is relative to it, and of any other
    absolute path only the name stays.
    """
    folders = [f"{folder}/" for folder in (os.getcwd(), os.path.expanduser("~")) if len(folder) > 1]
    return _mapped(value, lambda text: _sentence(text, folders) if "/" in text else text)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, change) for item in value)
    return value


def _real(run: Path) -> str:
    return os.path.realpath(run)


def _is_path(text: str) -> bool:
    """Is it, or is it in, a folder of this machine? A node of a graph may be called /conv/Conv."""
    if not text.startswith("/"):
        return False
    return _exists(text) or _in_folder(text.partition("?")[0])


def _is_of_here(text: str) -> bool:
    """Is it on this machine, or in a folder of it below the top ones? A node of a graph may be /root/Conv."""
    return _exists(text) or (text.count("/") > 2 and _in_folder(text.partition("?")[0]))


def _exists(text: str) -> bool:
    path = text.partition("?")[0]
    return any(os.path.exists(part) for part in (path, path.rpartition(":")[0]) if part)


def _in_folder(path: str) -> bool:
    folder = os.path.dirname(path)
    return folder != "/" and os.path.isdir(folder)


def _relative(text: str, run: str) -> str:
    path, question, options = text.partition("?")
    slash = "/" * (path.endswith("/") and path != "/")
    short = f"{RUN}{os.path.relpath(path, run)}{slash}{question}{options}"
    return short if _joined(short, run) == text else text  # one that is not written in the shortest way


def _joined(text: str, run: str) -> str:
    path, question, options = text.removeprefix(RUN).partition("?")
    slash = "/" * path.endswith("/")
    return f"{os.path.normpath(os.path.join(run, path))}{slash}{question}{options}"


def _sentence(text: str, folders: list[str]) -> str:
    for folder in folders:
        text = text.replace(folder, "")
    return _ABSOLUTE.sub(
        lambda match: os.path.basename(match[0].rstrip("/")) if _is_of_here(match[0]) else match[0], text
    )
