"""Target files → `Target` records; the host's instruction set is read from the machine, a device's when it is added."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekit import folders, registry
from edgekit.errors import InputError, RecipeError, os_errors
from edgekit.tables import build, read_toml
from edgekit.types import Device, Target

if TYPE_CHECKING:
    from edgekit.devices._facts import Facts

#: runtimes with wheels by architecture, and the versions from which on this toolkit has been tried with them
WHEELS = {arch: {"onnxruntime": ">=1.20", "litert": ">=2.1", "openvino": ">=2025.4"} for arch in ("aarch64", "x86_64")}


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


def device(target: Target) -> Device:
    """What reaches a target; nothing is connected yet. Raises InputError where nothing can."""
    made: Device = registry.load("devices", target.device)(target)
    return made


def write(target: Target, *, replace: bool = False) -> Path:
    """Keep a target among the user's own. Raises InputError where one of that name is there, or shipped."""
    path = folders.user_config() / "targets" / f"{target.name}.toml"
    taken = folders.find("targets", target.name)
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


def measured(
    name: str,
    device: Literal["ssh", "adb"],
    address: str,
    like: str = "",
    python: str = "python3",
    libraries: Mapping[str, str] | None = None,
) -> Target:
    """A target read from the device itself; its title, runtimes and notes are those of the target `like`.

    `libraries` are those of a phone that takes no Linux wheel's: runtime → path here. Raises InputError (the address, a
    path, or `like`), DeviceError (the device cannot be reached).
    """
    kind = load(like) if like else None
    runtimes = kind.runtimes if kind else {"onnxruntime": "", "litert": ""} if device == "adb" else {}
    blank = Target(name, name, device, runtimes=runtimes, address=address, python=python, libraries=libraries or {})
    if problems := list(blank.problems()):
        next = "edgekit targets add NAME --ssh user@host, or --adb SERIAL"
        raise InputError(f"cannot add {name!r}", "; ".join(problems), next)
    for path in blank.libraries.values():
        with os_errors("read", path):
            Path(path).open("rb").close()
    facts = _facts_of(blank)
    return dataclasses.replace(
        blank,
        title=f"{facts.model or (kind.title if kind else facts.cpu)} ({facts.os})" if facts.os else facts.model or name,
        arch=facts.arch,
        isa=facts.isa,
        cores=facts.cores,
        memory_mb=facts.memory_bytes >> 20,
        runtimes=runtimes or WHEELS.get(facts.arch, {}),
        notes=kind.notes if kind else "",
    )


def _facts_of(target: Target) -> Facts:
    if target.device == "adb":
        from edgekit.devices import _adb

        return _adb.phone(target.name, target.address).facts
    from edgekit.devices import _ssh
    from edgekit.devices._address import Address

    return _ssh.session(target.name, Address.parse(target.address), target.python).facts
