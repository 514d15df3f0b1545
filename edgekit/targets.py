"""Target files → `Target` records; the host's instruction set is read from the machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekit import folders, registry
from edgekit.errors import InputError, RecipeError
from edgekit.tables import build, read_toml
from edgekit.types import Target


def names() -> tuple[str, ...]:
    return folders.names("targets")


def load(name: str) -> Target:
    """The target called `name`. Raises InputError (unknown) or RecipeError (its file has problems)."""
    path = folders.find("targets", name)
    if path is None:
        raise InputError(f"there is no target {name!r}", next=registry.suggest(name, names()))
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
