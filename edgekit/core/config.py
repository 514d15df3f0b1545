"""TOML tables and JSON objects → frozen dataclasses, with every problem reported at once.

Recipes, steps, plans, gates, targets and calibration manifests are all read here, and JSON records through
`edgekit.core.json`. Unknown keys are rejected with suggestions (or ignored, in records that later versions extend), and
values must have the annotated type (the only implicit conversion is int → float).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgekit.core.errors import InputError, Problem, os_errors, suggest

T = TypeVar("T")

#: records are shallow; what walks through them may call itself once for each level
MAX_DEPTH = 100

#: no file's name can hold the one, no UTF-8 text the others
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class Misfit(TypeError):
    """A value of the wrong type; `path` says which one in a nested value: ".ci95[1]", "" for the value itself."""

    def __init__(self, what: str, path: str = "") -> None:
        super().__init__(f"{path.removeprefix('.')}: {what}" if path else what)
        self.what, self.path = what, path

    def within(self, outer: str) -> Misfit:
        """The same, of the value that holds it as its item `outer`."""
        return Misfit(self.what, outer + self.path)


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a dictionary. Raises InputError if it is missing, not UTF-8, not TOML (with the line), or holds
    values that no setting can have (see `check_values`).
    """
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        table = tomllib.loads(decoded(raw))
        check_values(table, finite=True)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"cannot read {path}", f"it is not TOML: {error}", "fix that line") from error
    except RecursionError as error:
        raise InputError(f"cannot read {path}", "it is nested too deeply", "write it flat") from error
    except UnicodeError as error:
        raise InputError(f"cannot read {path}", str(error), "save it as UTF-8") from error
    except ValueError as error:
        raise InputError(f"cannot read {path}", short(error), "correct that value") from error
    return table


def decoded(raw: bytes) -> str:
    """UTF-8 text, without a byte order mark. Raises UnicodeError, with a sentence, for what is no UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnicodeError(f"it is not UTF-8 text (byte {error.start})") from error


def short(error: Exception) -> str:
    """The error's message in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def check_values(value: Any, finite: bool = False) -> None:
    """Raises ValueError, with the place and a sentence, for a value from JSON or TOML that would fail later: nested
    over MAX_DEPTH, an integer of more than 64 bits, text with a NUL character or half a surrogate pair, and with
    `finite` NaN and infinity.
    """
    pending: list[tuple[str, Any, int]] = [("", value, 0)]
    while pending:
        path, item, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if isinstance(item, dict):
            pending += [("", key, depth) for key in item]
            pending += [(f"{path}.{key}" if path else str(key), entry, depth + 1) for key, entry in item.items()]
        elif isinstance(item, list):
            pending += [(f"{path}[{index}]", entry, depth + 1) for index, entry in enumerate(item)]
        elif problem := _problem(item, finite):
            raise ValueError(f"{path.encode(errors='replace').decode()} {problem}" if path else f"it {problem}")


def _problem(item: Any, finite: bool) -> str:
    if isinstance(item, int) and not -(2**63) <= item < 2**64:
        return "has more than 64 bits"
    if isinstance(item, str) and (bad := _UNUSABLE.search(item)):
        return "holds a NUL character" if bad[0] == "\0" else "holds half a surrogate pair"
    if finite and isinstance(item, float) and not math.isfinite(item):
        return f"is {item:g}, not a number" if math.isnan(item) else f"is {item:g}, not finite"
    return ""


def build(cls: type[T], table: Mapping[str, Any], where: str, newer: bool = False) -> tuple[T | None, list[Problem]]:
    """An instance of the dataclass `cls` from `table`, or None and every problem with the table.

    `newer`: unknown keys are ignored, at any depth; a later edgekit may have written them.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = _hints(cls)  # type: ignore[arg-type]
    problems = [
        Problem(where, f"unknown key {key!r}", suggest(key, tuple(fields)))
        for key in table
        if key not in fields and not newer
    ]
    values = {}
    for name, value in table.items():
        if name in fields:
            try:
                values[name] = convert(value, hints[name], newer)
            except Misfit as error:
                problems.append(Problem(f"{where}.{name}{error.path}" if where else f"{name}{error.path}", error.what))
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table:
            problems.append(Problem(where, f"{name!r} is missing"))
    if problems:
        return None, problems
    instance = cls(**values)
    if hasattr(instance, "problems"):
        problems = [Problem(where, text) for text in instance.problems()]
    return (None if problems else instance), problems


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def convert(value: Any, hint: Any, newer: bool = False) -> Any:
    """`value` converted to the type `hint`; `newer` as in `build`. Raises Misfit if it has another type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if isinstance(value, str | int) and value in arguments:
            return value
        raise Misfit(f"must be one of {', '.join(map(repr, arguments))}, not {_described(value)}")
    if origin is tuple:
        return _tuple(value, arguments, newer)
    if origin in (types.UnionType, typing.Union):
        return _union(value, arguments, newer)
    if origin is not None and issubclass(origin, Mapping):
        return dict(_items(value, arguments, newer))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _record(value, hint, newer)
    if fits(value, hint):
        return float(value) if hint is float else value
    raise Misfit(f"must be {_type_name(hint)}, not {_described(value)}")


def known_items(table: Mapping[str, Any], hints: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each item of a free-form table that does not have the type its key is known to have."""
    for name, hint in hints.items():
        try:
            convert(table.get(name), hint | None, newer=True)
        except Misfit as error:
            yield f"{name}{error.path} {error.what}"


def parse(text: str, hint: Any) -> Any:
    """A command-line argument as a TOML value of type `hint` (`--set train.epochs=3`). Raises TypeError."""
    if hint is str:
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        check_values(value, finite=True)
    except tomllib.TOMLDecodeError:
        return convert(text, hint)
    except RecursionError as error:
        raise Misfit("must not be nested so deeply") from error
    except ValueError as error:
        raise Misfit(f"cannot be used: {short(error)}") from error
    return convert(value, hint)


def _tuple(value: Any, items: tuple[Any, ...], newer: bool) -> tuple[Any, ...]:
    """`tuple[float, ...]` has any length, `tuple[float, float]` has two values."""
    if not isinstance(value, list | tuple):
        raise Misfit(f"must be a list of {_type_name(items[0])}, not {_described(value)}")
    hints = [items[0]] * len(value) if items[-1] is Ellipsis else items
    if len(value) != len(hints):
        raise Misfit(f"must be a list of {len(hints)} values, not of {len(value)}")
    converted = []
    for index, (entry, hint) in enumerate(zip(value, hints, strict=True)):
        try:
            converted.append(convert(entry, hint, newer))
        except Misfit as error:
            raise error.within(f"[{index}]") from error
    return tuple(converted)


def _union(value: Any, options: tuple[Any, ...], newer: bool) -> Any:
    present = [option for option in options if option is not type(None)]
    if len(present) == 1 and (value is not None or len(options) == 1):
        return convert(value, present[0], newer)
    for option in options:
        if isinstance(value, dict) and dataclasses.is_dataclass(option):
            return convert(value, option, newer)
        if (option is type(None) and value is None) or (option is not type(None) and fits(value, option)):
            return value if option is type(None) else convert(value, option, newer)
    raise Misfit(f"must be {' or '.join(map(_type_name, present))}, not {_described(value)}")


def _items(value: Any, arguments: tuple[Any, ...], newer: bool) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise Misfit(f"must be a table, not {_described(value)}")
    for name, entry in value.items():
        try:
            yield str(name), convert(entry, arguments[1], newer)
        except Misfit as error:
            raise error.within(f".{name}") from error


def _record(value: dict[str, Any], hint: type, newer: bool) -> Any:
    instance, problems = build(hint, value, "", newer)
    if problems:
        first = problems[0]
        raise Misfit(first.what, f".{first.where}" if first.where else "")
    return instance


def fits(value: Any, hint: Any) -> bool:
    """Can the value stand where the annotation says `hint`?"""
    if hint is Any:
        return True
    if typing.get_origin(hint) is not None:
        try:
            convert(value, hint)
        except TypeError:
            return False
        return True
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def _type_name(hint: Any) -> str:
    words = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    if dataclasses.is_dataclass(hint):
        return "a table"
    if typing.get_origin(hint) is tuple:
        return "a list"
    return words.get(hint, str(hint))


def _described(value: Any) -> str:
    """The type and the value, cut after 60 characters: a value from a file may be long."""
    if isinstance(value, dict):
        return "a table"
    names = {str: "string", int: "integer", float: "number", bool: "boolean", list: "list", type(None): "nothing"}
    if value is None:
        return "nothing"
    return f"{names.get(type(value), type(value).__name__)} {value!r:.60}"
