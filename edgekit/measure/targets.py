"""Target files → `Target` records; the host's instruction set is read from the machine, a device's when it is added."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekit.core import errors, paths, registry
from edgekit.core.config import build, read_toml
from edgekit.core.device import Device
from edgekit.core.errors import InputError, RecipeError, os_errors
from edgekit.core.target import Target


def names() -> tuple[str, ...]:
    return paths.names("targets")


def load(name: str) -> Target:
    """The target called `name`. Raises InputError (unknown) or RecipeError (its file has problems)."""
    path = paths.find("targets", name)
    if path is None:
        raise InputError(f"there is no target {name!r}", next=errors.suggest(name, names()))
    return read(path)


def read(path: Path) -> Target:
    target, problems = build(Target, read_toml(path), "")
    if target is None:
        raise RecipeError(str(path), problems)
    if target.device == "local" and not target.arch:
        facts = registry.load("devices", "local")(target).facts()
        target = dataclasses.replace(
            target,
            arch=facts["arch"],
            isa=tuple(facts["isa"]),
            cores=facts["cores"],
            memory_mb=facts["memory_bytes"] >> 20,
        )
    return target


def device(target: Target) -> Device:
    """What reaches a target; nothing is connected yet. Raises InputError where nothing can."""
    made: Device = registry.load("devices", target.device)(target)
    return made


def write(target: Target, *, replace: bool = False) -> Path:
    """Keep a target among the user's own. Raises InputError where one of that name is there, or shipped."""
    path = paths.user_config() / "targets" / f"{target.name}.toml"
    taken = paths.find("targets", target.name)
    if taken and taken != path:
        raise InputError(f"there is a target {target.name!r} already", f"it is {taken}", "choose another name")
    if taken and not replace:
        raise InputError(
            f"there is a target {target.name!r} already", f"it is {path}", "--replace it, or choose another"
        )
    import tomli_w

    table = {key: value for key, value in dataclasses.asdict(target).items() if value or key == "title"}
    if target.python == "python3":
        del table["python"]
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path
