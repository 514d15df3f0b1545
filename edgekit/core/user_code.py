"""The user's own code: `net.py:Net` is imported and run; its exceptions become edgekit's errors.

A reference is run only if the user has named it: on a command line, as an argument in Python, or in a recipe that the
user named (`typed`), now or before (`core/trust.py`). One that only a file names, such as an artifact from elsewhere,
is an error: data never becomes code.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import itertools
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from edgekit.core import trust
from edgekit.core.errors import EdgekitError, InputError, suggest

P = ParamSpec("P")
T = TypeVar("T")

#: environment variable with references that count as typed, one per line: for the processes that edgekit starts
CODE = "EDGEKIT_CODE"

#: places of the references that the user typed for this process
_typed: set[str] = set()

log = logging.getLogger("edgekit")


def typed(*values: Any) -> None:
    """Count the references in what the user typed as allowed: in strings, and in tables and lists of them."""
    for value in values:
        if isinstance(value, str):
            _typed.update(map(place, references_in(value)))
        elif isinstance(value, Mapping):
            typed(*value.values())
        elif isinstance(value, list | tuple):
            typed(*value)


def typed_by_user(function: Callable[P, T]) -> Callable[P, T]:
    """For functions of the Python API, whose arguments are what the user typed."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        typed(args, kwargs)
        return function(*args, **kwargs)

    return call


def references_in(text: str) -> Iterator[str]:
    """What may be references in `net.py:Net`, `cars.py:Cars:val` or `train.model=net.py:Net`; no file is looked at."""
    for part in dict.fromkeys((text, text.partition("=")[2], *re.split(r"[\s,;=?&\"'\[\]{}]+", text))):
        for candidate in (part, part.rpartition(":")[0]):
            where, _, attributes = candidate.rpartition(":")
            if where and "\0" not in where and all(map(str.isidentifier, attributes.split("."))):
                yield candidate


def place(reference: str) -> str:
    """A reference with the folder it counts in: a file's absolute path, or the working directory before a module."""
    where, _, attributes = reference.rpartition(":")
    return f"{Path(where).resolve() if where.endswith('.py') else Path.cwd() / where}:{attributes}"


def check_typed(reference: str) -> None:
    """Raises InputError for code that the user has not named; what was typed now is remembered for later commands."""
    if _is_typed(reference):
        _remember(reference)
    elif place(reference) not in trust.read().code:
        what = f"{reference!r} is not run"
        why = "it is code that a file names, and you have not named it in this folder yourself"
        raise InputError(what, why, f"if you trust it: edgekit trust {shlex.quote(reference)}")


def _is_typed(reference: str) -> bool:
    inherited = (place(line) for line in os.environ.get(CODE, "").splitlines())
    return place(reference) in {*_typed, *inherited}


def _remember(reference: str) -> None:
    where = place(reference)
    own = where if reference.rpartition(":")[0].endswith(".py") else reference
    inherited = os.environ.get(CODE, "").splitlines()
    if own not in inherited:
        os.environ[CODE] = "\n".join([*inherited, own])
    try:
        if where not in trust.read().code:
            with trust.changed() as record:
                record.code.append(where)
    except (EdgekitError, OSError) as error:  # as in a container without a home
        log.info("%s is not remembered: %s", where, error)


def run_user_code(where: str, what: str, run: Callable[[], T]) -> T:
    """What the user's code returns. Raises InputError, naming the line, for any exception it raises."""
    try:
        return run()
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:
        raise InputError(what, reason(where, error), "fix it; run it with python to see the traceback") from error


def reason(where: str, error: BaseException) -> str:
    """ "SyntaxError: invalid syntax (net.py, line 3)": what code that `where` names raised, and the line."""
    message = next((line for line in str(error).splitlines() if line.strip()), "")
    place = _line(where, error)
    if isinstance(error, SyntaxError) and error.lineno:
        message, place = error.msg, f" ({Path(error.filename or where).name}, line {error.lineno})"
    return f"{type(error).__name__}: {message.strip()}{place}"


def _line(where: str, error: BaseException) -> str:
    """ " (net.py, line 3)": the innermost line in the file that `where` names, else the innermost of all."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    own = [frame for frame in frames if Path(frame.filename) == _file(where)]
    last = (own or frames)[-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


def _file(where: str) -> Path | None:
    """The file of a reference (`net.py:Net`, `package.module:Net`) or of its module; None before it is loaded."""
    place = where.rpartition(":")[0] or where
    if place.endswith(".py"):
        return Path(place).resolve()
    file = getattr(sys.modules.get(place), "__file__", None)
    return Path(file).resolve() if file else None


def is_reference(name: str) -> bool:
    """Does the name refer to the user's own code: `net.py:Net`, or `package.module:Net`?"""
    where, separator, attribute = name.rpartition(":")
    if not separator or "\0" in where or not attribute.isidentifier():
        return False
    return where.endswith(".py") or _is_module(where)


def _is_module(name: str) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    spec = find_module(name)
    return spec is not None and spec.origin is not None  # None: any plain folder is a namespace package


def find_module(name: str) -> ModuleSpec | None:
    """Where a module is, on Python's path or in the working directory; its packages are not imported to find it."""
    top, *parts = name.split(".")
    try:
        if name in sys.modules:
            return importlib.util.find_spec(name)
        spec = importlib.util.find_spec(top) or PathFinder.find_spec(top, [str(Path.cwd())])
        whole = top
        for part in parts:
            whole = f"{whole}.{part}"
            spec = PathFinder.find_spec(whole, list(spec.submodule_search_locations or ())) if spec else None
    except (ImportError, ValueError):
        return None
    return spec


def resolve(name: str) -> Any:
    """The object that a reference names, which may have dots: `net.py:Net.make`.

    This runs the user's code. Raises InputError if the user has not named it, or it cannot be loaded.
    """
    check_typed(name)
    where, _, attributes = name.rpartition(":")
    value: Any = _imported(where)
    for attribute in attributes.split("."):
        if not hasattr(value, attribute):
            public = tuple(key for key in dir(value) if not key.startswith("_"))
            raise InputError(f"{where} defines no {attribute!r}", next=suggest(attribute, public))
        value, where = getattr(value, attribute), f"{where}:{attribute}" if ":" not in where else f"{where}.{attribute}"
    return value


def _imported(where: str) -> ModuleType:
    if not where.endswith(".py"):
        _add_to_path(Path.cwd())
        module: ModuleType = run_user_code(where, f"cannot run {where}", lambda: importlib.import_module(where))
        return module
    path = Path(where).resolve()
    if not path.is_file():
        raise InputError(f"there is no file {where}", f"looked for it in {Path.cwd()}", "check the path")
    if package := package_of(path):
        return _of_package(where, path, package)
    # a unique name: test.py must not replace the standard library's module
    import hashlib

    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        run_user_code(where, f"cannot run {where}", lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    except InputError:
        del sys.modules[name]
        raise
    return module


def package_of(path: Path) -> str:
    """The dotted name of a file that imports from its own package ("shopvision.model"), else ""."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # said where it is run
        return ""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    level = max((node.level for node in imports if isinstance(node, ast.ImportFrom)), default=0)
    packages = itertools.takewhile(lambda folder: (folder / "__init__.py").is_file(), path.parents)
    folders = max((list(packages), list(path.parents[:level])), key=len)  # a package may have no __init__.py
    if not folders:
        return ""
    top = folders[-1].name
    names = {name.name for node in imports if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom) and not node.level}
    if not level and not any(name.partition(".")[0] == top for name in names):
        return ""
    return ".".join([*(folder.name for folder in reversed(folders)), path.stem])


def _of_package(where: str, path: Path, name: str) -> ModuleType:
    """The module of a file in a package. Raises InputError if another package has the same name."""
    _add_to_path(path.parents[name.count(".")])
    module: ModuleType = run_user_code(where, f"cannot run {where}", lambda: importlib.import_module(name))
    if (file := getattr(module, "__file__", None)) is None or Path(file).resolve() != path:
        why = f"it is {name}, and another module has that name: {file}"
        raise InputError(f"cannot run {where}", why, f"rename the folder {name.partition('.')[0]}")
    return module


def _add_to_path(folder: Path) -> None:
    """Append to sys.path: a user's file must not shadow a package."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
