"""Target files → `Target` records; the host is probed whenever it is loaded, a device when it is added."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgekit.core import errors, paths, registry
from edgekit.core.config import build, read_toml
from edgekit.core.device import Device
from edgekit.core.errors import InputError, RecipeError, os_errors
from edgekit.core.files import write_atomically
from edgekit.core.target import Target


def names() -> tuple[str, ...]:
    return paths.names("targets")


def load(name: str) -> Target:
    """The target called `name`. Raises InputError or RecipeError (its file has problems).

    A target of the working directory may have the name of a shipped one only if it is of this machine.
    """
    path = paths.find("targets", name)
    if path is None:
        raise InputError(f"there is no target {name!r}", next=errors.suggest(name, names()))
    target = read(path)
    if paths.is_of_folder(path) and name in paths.shipped_names("targets") and (target.address or not is_here(target)):
        what = f"{path} cannot stand in place of the shipped target {name}"
        raise InputError(what, "it names a device, and models and samples would go there", "give it a name of its own")
    return target


def read(path: Path) -> Target:
    target, problems = build(Target, read_toml(path), "")
    if target is None:
        raise RecipeError(str(path), problems)
    if not target.arch and is_here(target):
        facts = device(target).facts()
        target = dataclasses.replace(
            target,
            arch=facts["arch"],
            isa=tuple(facts["isa"]),
            cores=facts["cores"],
            memory_mb=facts["memory_bytes"] >> 20,
            runtimes={**target.runtimes, **_installed_runtimes(target.runtimes)},
        )
    return target


def _installed_runtimes(known: Mapping[str, str]) -> dict[str, str]:
    """The runtimes of third-party packages that are installed here: they belong to this machine."""
    names = set(registry.added("runtimes")) - set(known)
    return {r.name: r.versions for r in registry.runtimes() if r.name in names and r.computes and _installed(r.package)}


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def is_here(target: Target) -> bool:
    """Does this target compute on this machine? If so, it is measured alone."""
    return bool(registry.load("devices", target.device).here)


def device(target: Target) -> Device:
    """The device of a target, not connected yet. Raises InputError for an unknown kind of device."""
    device: Device = registry.load("devices", target.device)(target)
    return device


def exported_formats(runtime: str) -> tuple[str, ...]:
    """The formats that a runtime executes and that a step makes of a torch network, in the runtime's own order."""
    declared = registry.runtime(runtime)
    steps = registry.names("steps")
    formats = [name for name in registry.names("formats") if name != "torch" and f"to_{name}" in steps]
    preferred = {format: place for place, format in enumerate(declared.formats)}
    return tuple(sorted(filter(declared.takes, formats), key=lambda format: preferred.get(format, 0)))


def write(target: Target, *, replace: bool = False) -> Path:
    """Write a target to the user's own. Raises InputError if that name is taken by one of them or a shipped one."""
    path = paths.user_config() / "targets" / f"{target.name}.toml"
    existing = paths.find("targets", target.name)
    if existing and existing != path:
        raise InputError(f"there is already a target {target.name!r}", f"it is {existing}", "choose another name")
    if existing and not replace:
        what = f"there is already a target {target.name!r}"
        raise InputError(what, f"it is {path}", "overwrite it with --replace, or choose another name")
    import tomli_w

    table = {key: value for key, value in dataclasses.asdict(target).items() if value or key == "title"}
    if target.python == "python3":
        del table["python"]
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, tomli_w.dumps(table))
    return path
