"""TOML tables → frozen dataclasses, with every problem reported at once.

Recipes, steps, plans, gates, targets and calibration manifests are all read here. Unknown keys are rejected with
suggestions, and values must have the annotated type (the only implicit conversion is int → float).
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgekit.core.errors import InputError, Problem, os_errors, suggest

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a dictionary. Raises InputError if it is missing, not UTF-8, or not TOML (with the line)."""
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"cannot read {path}", f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"cannot read {path}", f"it is not TOML: {error}", "fix that line") from error


def build(cls: type[T], table: Mapping[str, Any], where: str) -> tuple[T | None, list[Problem]]:
    """An instance of the dataclass `cls` from `table`, or None and every problem with the table."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    problems = [
        Problem(where, f"unknown key {key!r}", suggest(key, tuple(fields))) for key in table if key not in fields
    ]
    values = {}
    for name, value in table.items():
        if name in fields:
            try:
                values[name] = convert(value, hints[name])
            except TypeError as error:
                problems.append(Problem(f"{where}.{name}" if where else name, str(error)))
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


def convert(value: Any, hint: Any) -> Any:
    """`value` converted to the type `hint`. Raises TypeError, with a sentence, if it has another type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        raise TypeError(f"must be one of {', '.join(map(repr, arguments))}, not {value!r}")
    if origin is tuple:
        return _tuple(value, arguments)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            if (option is type(None) and value is None) or (option is not type(None) and fits(value, option)):
                return value if option is type(None) else convert(value, option)
        raise TypeError(f"must be {' or '.join(_type_name(a) for a in arguments)}, not {_described(value)}")
    if origin is not None and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {str(k): convert(v, arguments[1]) for k, v in value.items()}
        raise TypeError(f"must be a table, not {_described(value)}")
    if fits(value, hint):
        return float(value) if hint is float else value
    raise TypeError(f"must be {_type_name(hint)}, not {_described(value)}")


def parse(text: str, hint: Any) -> Any:
    """A command-line argument as a TOML value of type `hint` (`--set train.epochs=3`). Raises TypeError."""
    if hint is str:
        return text
    try:
        return convert(tomllib.loads(f"value = {text}")["value"], hint)
    except tomllib.TOMLDecodeError:
        return convert(text, hint)


def _tuple(value: Any, items: tuple[Any, ...]) -> tuple[Any, ...]:
    """`tuple[float, ...]` has any length, `tuple[float, float]` has two values."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list of {_type_name(items[0])}, not {_described(value)}")
    hints = [items[0]] * len(value) if items[-1] is Ellipsis else items
    if len(value) != len(hints):
        raise TypeError(f"must be a list of {len(hints)} values, not of {len(value)}")
    return tuple(map(convert, value, hints))


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
    return words.get(hint, str(hint))


def _described(value: Any) -> str:
    return (
        f"{_type_name(type(value)).removeprefix('an ').removeprefix('a ')} {value!r}"
        if not isinstance(value, dict)
        else "a table"
    )
