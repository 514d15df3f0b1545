"""What a device sent, bounded and checked before it is used or shown: a device may be hostile, broken or half dead.

Every function raises ValueError with a sentence that says what is wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from edgekit.core.config import build, check_values
from edgekit.core.errors import DeviceError

T = TypeVar("T")

#: an object of an answer has no more keys, and no longer ones
MOST_KEYS, LONGEST_KEY = 64, 200


def shown(text: object, most: int = 200) -> str:
    """One line of at most `most` characters for a message: no control characters, no escape codes."""
    start = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in start[: 4 * most]).split())
    return line if len(line) <= most and len(start) <= 4 * most else line[: most - 1] + "…"


def invalid(name: str, why: object) -> DeviceError:
    """The error for an answer of the device `name` that cannot be used."""
    return DeviceError(f"{name} sent an invalid result", shown(why, 300), "run it again; is its storage failing?")


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object: UTF-8, not nested deeply, every number finite and of at most 64 bits."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    check_values(value, finite=True)
    return value


def record(cls: type[T], table: Mapping[str, Any]) -> T:
    """The frozen dataclass `cls` from an object with exactly its fields, of their types."""
    if len(table) > MOST_KEYS or any(len(key) > LONGEST_KEY for key in table):
        raise ValueError(f"it has {len(table)} keys; at most {MOST_KEYS} short ones are expected")
    made, problems = build(cls, table, "")
    if made is None:
        raise ValueError(shown(f"{problems[0].where.lstrip('.')} {problems[0].what}".strip()))
    return made


def plain(name: str) -> bool:
    """Is it the plain name of a file, in any folder of any file system?"""
    return bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name))


def _constant(text: str) -> float:
    raise ValueError(f"it contains {text}, which is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it contains {shown(text, 20)}, which is too large")
    return value
