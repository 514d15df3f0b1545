"""Target files → `Target` records; the host's instruction set is read from the machine, a device's when it is added."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekit import folders, registry
from edgekit.errors import InputError, RecipeError, os_errors
from edgekit.tables import build, read_toml
from edgekit.types import Device, Target

#: ways to a device that are planned and not built
PLANNED = {"adb": "phones, over adb"}
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
    if target.device in PLANNED and target.device not in registry.names("devices"):
        why = f"{PLANNED[target.device]} cannot be reached yet"
        raise InputError(f"nothing can run on {target.name}", why, "what is made for it can be: see `edgekit quantize`")
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


def measured(name: str, address: str, like: str = "", python: str = "python3") -> Target:
    """A target read from the device itself; its title, runtimes and notes are those of the target `like`.

    Raises InputError (the address, or `like`), DeviceError (the device cannot be reached).
    """
    from edgekit.devices import _ssh
    from edgekit.devices._address import Address

    kind = load(like) if like else None
    blank = Target(name, name, "ssh", address=address, python=python)
    if problems := list(blank.problems()):
        raise InputError(f"cannot add {name!r}", "; ".join(problems), "edgekit targets add NAME --ssh user@host")
    facts = _ssh.session(name, Address.parse(address), python).facts
    return dataclasses.replace(
        blank,
        title=f"{facts.model or (kind.title if kind else facts.cpu)} ({facts.os})" if facts.os else facts.model or name,
        arch=facts.arch,
        isa=facts.isa,
        cores=facts.cores,
        memory_mb=facts.memory_bytes >> 20,
        runtimes=kind.runtimes if kind else WHEELS.get(facts.arch, {}),
        notes=kind.notes if kind else "",
    )
