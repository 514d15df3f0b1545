"""A name is a file: `load("steps", "to_onnx")` imports `edgekit/steps/to_onnx.py` and gives its class `ToOnnx`.

Third parties add members through entry points in the groups `edgekit.steps`, `edgekit.runtimes`, … whose values
point at the class. In a project of one's own no packaging is needed: `net.py:Net`, a file and what it defines, or
`package.module:Net` name a member as well. Nothing is imported before it is looked up.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError, suggest
from edgekit.core.user_code import is_reference, resolve

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
    if is_reference(name):
        return resolve(name)
    singular = group.removesuffix("s")
    raise InputError(f"there is no {singular} {name!r}", next=suggest(name, names(group)))


def shipped(group: str) -> tuple[str, ...]:
    """The members of a group that come with edgekit."""
    return tuple(_files(group))


def is_own(group: str, name: str) -> bool:
    """Is the name a reference to the user's own code, `net.py:Net`?"""
    return name not in names(group) and is_reference(name)


def reference(group: str, name: str) -> str:
    """Where the member is defined, "module:name", without importing it. Raises InputError where there is none."""
    if (group, name) not in _added:
        if name in _files(group):
            return f"edgekit.{group}.{_files(group)[name]}:{class_name(name)}"
        if name in _entry_points(group):
            return str(_entry_points(group)[name].value).partition(" ")[0]
        if is_reference(name):
            return name
    member = load(group, name)
    if not hasattr(member, "__qualname__"):
        why = f"it is a {type(member).__name__}"
        raise InputError(f"the source of {name} cannot be found", why, "name a function or a class")
    return f"{member.__module__}:{member.__qualname__.partition('.')[0]}"


def source(group: str, name: str) -> Path:
    """The file that defines a member, found without importing it."""
    if name in _files(group):
        return Path(__file__).parents[1] / group / f"{_files(group)[name]}.py"
    return Path(inspect.getfile(load(group, name)))


def class_name(name: str) -> str:
    """CamelCase of a member's name: "onnx_int8" → "OnnxInt8", "fashion-mnist" → "FashionMnist"."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))


@cache
def _files(group: str) -> dict[str, str]:
    """Name → module; a file with a hyphenated name in recipes has an underscore on disk."""
    folder = Path(__file__).parents[1] / group
    hyphens = group in ("tasks", "models")
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        if not module.ispkg:
            found[module.name.replace("_", "-") if hyphens else module.name] = module.name
    return found


@cache
def _entry_points(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"edgekit.{group}")}
