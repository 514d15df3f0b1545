"""Members by name: `load("steps", "to_onnx")` imports `edgekit/steps/to_onnx.py` and returns its class `ToOnnx`.

Third-party packages add members through entry points in the groups `edgekit.steps`, `edgekit.runtimes`, … whose values
name the class. Unpackaged code needs no entry point: `net.py:Net` (a file and a name it defines) or
`package.module:Net` also name a member. A member is imported when it is first looked up.
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
    """The class of that name. Raises InputError, with similar names, if there is none."""
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


def source(group: str, name: str) -> Path:
    """The file that defines a member. Members of the package are located without importing them."""
    if name in _files(group):
        return Path(__file__).parents[1] / group / f"{_files(group)[name]}.py"
    return Path(inspect.getfile(load(group, name)))


def class_name(name: str) -> str:
    """CamelCase of a member's name: "onnx_int8" → "OnnxInt8", "fashion-mnist" → "FashionMnist"."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))


@cache
def _files(group: str) -> dict[str, str]:
    """Name → module. Names of tasks and models have hyphens in recipes and underscores on disk."""
    folder = Path(__file__).parents[1] / group
    hyphens = group in ("tasks", "models")
    modules = {}
    for module in pkgutil.iter_modules([str(folder)]):
        if not module.ispkg and not module.name.startswith("_"):
            modules[module.name.replace("_", "-") if hyphens else module.name] = module.name
    return modules


@cache
def _entry_points(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"edgekit.{group}")}
