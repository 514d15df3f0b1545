"""Members by name: `load("steps", "to_onnx")` imports `edgekit/steps/to_onnx.py` and returns its class `ToOnnx`.

Third-party packages add members through entry points in the groups `edgekit.steps`, `edgekit.runtimes`, … whose values
name the class. A task or network in unpackaged code needs no entry point: `net.py:Net` (a file and a name it defines)
or `package.module:Net` also name a member, if the user typed it (`user_code.py`). A member is imported when it is first
looked up.

A member is checked when it is loaded (`extension_points.py`). One that cannot be loaded is refused as the fault of the
package it came from, and only where it is needed: `members` skips it with a warning.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from edgekit.core import extension_points
from edgekit.core.errors import DISTRIBUTION, BrokenPlugin, EdgekitError, InputError, Missing, suggest
from edgekit.core.runtime import Runtime
from edgekit.core.step import Step
from edgekit.core.user_code import is_reference, reason, resolve

GROUPS = ("steps", "runtimes", "devices", "tasks", "models", "formats")

#: groups of which the user's own code may be a member by reference
REFERENCED = ("models", "tasks")

_added: dict[tuple[str, str], Any] = {}

_skipped: set[tuple[str, str]] = set()

log = logging.getLogger("edgekit")


def add(group: str, name: str, member: Any) -> None:
    """Register a class for this process (scripts and notebooks; a package declares an entry point instead)."""
    _added[group, name] = member


def names(group: str) -> tuple[str, ...]:
    """Every member of a group, without importing any of them."""
    return tuple(sorted({*_files(group), *added(group)}))


def added(group: str) -> tuple[str, ...]:
    """The members that are not edgekit's own: those of other packages, and of this process."""
    own = {name for where, name in _added if where == group}
    return tuple(sorted({*_entry_points(group), *own} - set(_files(group))))


def load(group: str, name: str) -> Any:
    """The class of that name.

    Raises InputError, with similar names, if there is none, and BrokenPlugin or Missing for a member of another package
    that cannot be imported, or lacks what it must offer.
    """
    if (group, name) in _added:
        return _checked(group, name, _added[group, name])
    if name in _files(group):
        module = importlib.import_module(f"edgekit.{group}.{_files(group)[name]}")
        return getattr(module, class_name(name))
    if name in _entry_points(group):
        return _checked(group, name, _imported(_entry_points(group)[name], group))
    if is_own(group, name):
        return resolve(name)
    singular = group.removesuffix("s")
    raise InputError(f"there is no {singular} {name!r}", next=suggest(name, names(group)))


def members(group: str, prefix: str = "", suffix: str = "") -> Iterator[tuple[str, Any]]:
    """Every member that can be loaded, with its name; one that cannot is skipped, with one warning per process."""
    for name in (name for name in names(group) if name.startswith(prefix) and name.endswith(suffix)):
        try:
            yield name, load(group, name)
        except (BrokenPlugin, Missing) as error:
            if (group, name) not in _skipped:
                _skipped.add((group, name))
                log.warning("warning: %s: %s (skipped)", error.what, error.why)


def runtime(name: str) -> Runtime:
    """What a runtime declares, with the default for what it does not. Raises as `load`."""
    return extension_points.runtime(name, load("runtimes", name))


def runtimes() -> Iterator[Runtime]:
    """Every runtime that can be loaded."""
    for name, cls in members("runtimes"):
        yield extension_points.runtime(name, cls)


def distribution(group: str, name: str) -> str:
    """The distribution that a member came with: what its extra belongs to."""
    point = _entry_points(group).get(name) if name not in _files(group) else None
    return point.dist.name if point is not None and point.dist is not None else DISTRIBUTION


def step_name(step: Step) -> str:
    """The registry key of a step: its entry point's name, or the name of its file."""
    cls = type(step)
    for name, point in _entry_points("steps").items():
        if point.value == f"{cls.__module__}:{cls.__qualname__}":
            return name
    return next((name for name in names("steps") if class_name(name) == cls.__name__), cls.__name__)


def broken() -> Iterator[tuple[str, str, EdgekitError]]:
    """Group, name and error of every member of another package that cannot be loaded. Imports them all."""
    for group in GROUPS:
        for name in added(group):
            try:
                load(group, name)
            except EdgekitError as error:
                yield group, name, error


def at_fault(error: BaseException) -> str:
    """The distribution whose code raised what nobody expected: edgekit, or that of a member of another package."""
    if known := getattr(error, "at_fault", ""):  # it was raised in a child
        return str(known)
    owners = {}
    for group, name in [(every, name) for every in GROUPS for name in _entry_points(every)]:
        module = sys.modules.get(_entry_points(group)[name].module.partition(".")[0])
        if module is not None and module.__file__:
            file = Path(module.__file__)
            owners[file.parent if file.name == "__init__.py" else file] = distribution(group, name)
    owners[Path(__file__).parents[1]] = "edgekit"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        for place, owner in owners.items():
            if file == place or place in file.parents:
                return owner
    return "edgekit"


def _imported(point: EntryPoint, group: str) -> Any:
    """What an entry point names. Whatever its module raises is the fault of the package."""
    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.module
    what = f"the {group.removesuffix('s')} {point.name} of {package} cannot be loaded"
    brings = point.dist.name if point.dist is not None else point.module
    try:
        return point.load()
    except ModuleNotFoundError as error:
        absent, own = (error.name or "").partition(".")[0], point.module.partition(".")[0]
        if not absent or absent in (own, "edgekit"):
            raise BrokenPlugin(what, reason(point.module, error), _ask_authors(brings)) from error
        raise Missing(what, reason(point.module, error), f"install {absent}, or: pip install '{brings}'") from error
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenPlugin(what, reason(point.module, error), _ask_authors(brings)) from error


def _checked(group: str, name: str, member: Any) -> Any:
    """The member, where it offers what it must. Raises BrokenPlugin, naming everything that it lacks."""
    if lacks := extension_points.problems(group, name, member):
        package = distribution(group, name)
        of = f" of {package}" if package != DISTRIBUTION else ""
        what = f"the {group.removesuffix('s')} {name}{of} cannot be used"
        raise BrokenPlugin(what, "; ".join(lacks), "edgekit/core/extension_points.py lists what it must offer")
    return member


def _ask_authors(package: str) -> str:
    return f"it is no fault of edgekit: pip install --upgrade '{package}', or ask its authors"


def shipped(group: str) -> tuple[str, ...]:
    """The members of a group that come with edgekit."""
    return tuple(_files(group))


def is_own(group: str, name: str) -> bool:
    """Is the name a reference to the user's own code, `net.py:Net`?"""
    return group in REFERENCED and name not in names(group) and is_reference(name)


def reference(group: str, name: str) -> str:
    """Where the member is defined, "module:name", without importing it. Raises InputError where there is none."""
    if (group, name) not in _added:
        if name in _files(group):
            return f"edgekit.{group}.{_files(group)[name]}:{class_name(name)}"
        if name in _entry_points(group):
            return str(_entry_points(group)[name].value).partition(" ")[0]
        if is_own(group, name):
            return name
    member = load(group, name)
    if not hasattr(member, "__qualname__"):
        why = f"it is a {type(member).__name__}"
        raise InputError(f"the source of {name} cannot be found", why, "name a function or a class")
    return f"{member.__module__}:{member.__qualname__.partition('.')[0]}"


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
        if not module.ispkg:
            modules[module.name.replace("_", "-") if hyphens else module.name] = module.name
    return modules


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"edgekit.{group}")}
