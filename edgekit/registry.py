"""A name is a file: `load("steps", "to_onnx")` imports `edgekit/steps/to_onnx.py` and gives its class `ToOnnx`.

Third parties add members through entry points in the groups `edgekit.steps`, `edgekit.runtimes`, … whose values
point at the class. In a project of one's own no packaging is needed: `net.py:Net`, a file and what it defines, or
`package.module:Net` name a member as well. Nothing is imported before it is looked up.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
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
    if is_reference(name):
        return _referred(name)
    singular = group.removesuffix("s")
    raise InputError(f"there is no {singular} {name!r}", next=suggest(name, names(group)))


def source(group: str, name: str) -> Path:
    """The file that defines a member, found without importing it."""
    if name in _files(group):
        return Path(__file__).parent / group / f"{_files(group)[name]}.py"
    return Path(inspect.getfile(load(group, name)))


def is_reference(name: str) -> bool:
    """Does the name point at the user's own code: `net.py:Net`, or `package.module:Net`?"""
    where, separator, attribute = name.rpartition(":")
    return bool(separator) and attribute.isidentifier() and (where.endswith(".py") or _is_module(where))


def _is_module(name: str) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    _add_to_path(Path.cwd())
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # any folder of data is a namespace package


def _referred(name: str) -> Any:
    """What a reference points at. This runs the user's own code. Raises InputError where it cannot be had."""
    where, _, attribute = name.rpartition(":")
    module = _imported(where)
    if not hasattr(module, attribute):
        public = tuple(key for key in vars(module) if not key.startswith("_"))
        raise InputError(f"{where} defines no {attribute!r}", next=suggest(attribute, public))
    return getattr(module, attribute)


def _imported(where: str) -> ModuleType:
    if not where.endswith(".py"):
        _add_to_path(Path.cwd())
        module: ModuleType = _running(where, lambda: importlib.import_module(where))
        return module
    path = Path(where).resolve()
    if not path.is_file():
        raise InputError(f"there is no file {where}", f"looked for it in {Path.cwd()}", "check the path")
    # a name of its own: test.py must not become the standard library's module
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        _running(where, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    except InputError:
        del sys.modules[name]
        raise
    return module


def _running(where: str, run: Callable[[], Any]) -> Any:
    """What the user's own code gives. Raises InputError, with the line, for whatever it raises."""
    try:
        return run()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        file, line, said = last.filename, last.lineno, str(error)
        if isinstance(error, SyntaxError) and error.lineno:
            file, line, said = error.filename or file, error.lineno, error.msg
        why = f"{type(error).__name__}: {said} ({Path(file).name}, line {line})"
        raise InputError(f"cannot run {where}", why, "mend it; running it with python shows more") from error


def _add_to_path(folder: Path) -> None:
    """After everything else: a user's file must not shadow a package."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


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
