"""A name is a file: `load("steps", "to_onnx")` imports `edgekit/steps/to_onnx.py` and gives its class `ToOnnx`.

Third parties add members through entry points in the groups `edgekit.steps`, `edgekit.runtimes`, … whose values
point at the class. Nothing is imported before it is looked up.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.errors import InputError

GROUPS = ("steps", "runtimes", "devices", "tasks", "models", "formats")


_added: dict[tuple[str, str], Any] = {}


def add(group: str, name: str, member: Any) -> None:
    """Register a class for this process (scripts and notebooks; a package declares an entry point instead)."""
    _added[group, name] = member


def names(group: str) -> tuple[str, ...]:
    """Every member of a group, without importing any of them."""
    own = {name for where, name in _added if where == group}
    return tuple(sorted({*_files(group), *_entry_points(group), *own}))


def load(group: str, name: str) -> Any:
    """The class behind a name. Raises InputError, with near names, where there is none."""
    if (group, name) in _added:
        return _added[group, name]
    if name in _files(group):
        module = importlib.import_module(f"edgekit.{group}.{_files(group)[name]}")
        return getattr(module, class_name(name))
    if name in _entry_points(group):
        return _entry_points(group)[name].load()
    singular = group.removesuffix("s")
    raise InputError(f"there is no {singular} {name!r}", next=suggest(name, names(group)))


def source(group: str, name: str) -> Path:
    """The file that defines a member, found without importing it."""
    if name in _files(group):
        return Path(__file__).parent / group / f"{_files(group)[name]}.py"
    return Path(inspect.getfile(load(group, name)))


def suggest(name: str, known: tuple[str, ...]) -> str:
    """A hint for a misspelt name: the nearest ones, else all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if known else ""


def class_name(name: str) -> str:
    """CamelCase of a member's name: "onnx_int8" → "OnnxInt8", "fashion-mnist" → "FashionMnist"."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))


@cache
def _files(group: str) -> dict[str, str]:
    """Name → module; a file with a hyphenated name in recipes has an underscore on disk."""
    folder = Path(__file__).parent / group
    hyphens = group in ("tasks", "models")
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        if not module.name.startswith("_"):
            found[module.name.replace("_", "-") if hyphens else module.name] = module.name
    return found


@cache
def _entry_points(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"edgekit.{group}")}
