"""JSON files and JSON objects → records: the one door for what edgekit, its devices and other tools wrote.

`read` gives the object in a file, `record` a frozen dataclass; what either refuses is an InputError that names the
file, the place in it, what is wrong and what to type next. `parse` is for text that is not a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgekit.core.config import build, check_values, decoded, short
from edgekit.core.errors import InputError, os_errors

T = TypeVar("T")

AGAIN = "run the command again that made it"

#: of a file: its values take about ten times as much memory
MAX_BYTES = 64_000_000


def parse(raw: bytes | str) -> Any:
    """The value in UTF-8 text, which may begin with a byte order mark.

    Raises ValueError, with a sentence, for what is not JSON or would fail later (see `config.check_values`). NaN and
    infinity are values: a decibel can be infinite.
    """
    try:
        value = json.loads(decoded(raw) if isinstance(raw, bytes) else raw)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}" if raw else "it is empty") from error
    check_values(value)
    return value


def read(path: Path, next: str = AGAIN) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError, NoPermission; `next` is what to do about a damaged file."""
    with os_errors("read", path):
        size = path.stat().st_size
        raw = path.read_bytes() if size <= MAX_BYTES else b""
    if size > MAX_BYTES:
        raise InputError(f"{path} is damaged", f"it has {size / 1e6:,.0f} MB, more than such a file can have", next)
    try:
        value = parse(raw)
    except ValueError as error:
        raise InputError(f"{path} is damaged", short(error), next) from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged", "it does not hold a JSON object", next)
    return value


def record(cls: type[T], data: Any, where: Path | str, next: str = AGAIN, *, key: str = "", newer: bool = False) -> T:
    """An instance of the frozen dataclass `cls` from the JSON object `data`, found in the file `where` under `key`.

    `newer`: keys that are not known here are ignored, else refused. Raises InputError with the first problem.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where} is damaged", f"{key or 'it'} is not a JSON object", next)
    instance, problems = build(cls, data, key, newer)
    if instance is None:
        first = problems[0]
        raise InputError(f"{where} is damaged", f"{first.where}: {first.what}" if first.where else first.what, next)
    return instance
