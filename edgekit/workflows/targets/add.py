"""`targets add`: probe a device and make it a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekit.core import registry
from edgekit.core.errors import InputError, os_errors
from edgekit.core.target import Address, Target
from edgekit.devices.shared import adb, ssh
from edgekit.measure.targets import load

if TYPE_CHECKING:
    from edgekit.devices.shared.facts import Facts


def add(
    name: str,
    device: Literal["ssh", "adb"],
    address: str,
    like: str = "",
    python: str = "python3",
    libraries: Mapping[str, str] | None = None,
) -> Target:
    """Probe a device and return its target; the title, runtimes and notes are those of the target `like`.

    `libraries` are for a phone, which cannot use the library of a Linux wheel: runtime → path here. Raises InputError
    (the address, a path, or `like`), DeviceError (the device cannot be reached).
    """
    template = load(like) if like else None
    native = {r.name: "" for r in registry.runtimes() if r.library} if device == "adb" else {}
    runtimes = template.runtimes if template else native
    declared = Target(name, name, device, runtimes=runtimes, address=address, python=python, libraries=libraries or {})
    if problems := list(declared.problems()):
        next = "edgekit targets add NAME --ssh user@host, or --adb SERIAL"
        raise InputError(f"cannot add {name!r}", "; ".join(problems), next)
    for path in declared.libraries.values():
        with os_errors("read", path):
            Path(path).open("rb").close()
    facts = _probe(declared)
    model = facts.model or (template.title if template else facts.cpu)
    return dataclasses.replace(
        declared,
        title=f"{model} ({facts.os})" if facts.os else facts.model or name,
        arch=facts.arch,
        isa=facts.isa,
        cores=facts.cores,
        memory_mb=facts.memory_bytes >> 20,
        runtimes=runtimes or _with_wheels(facts.arch),
        notes=template.notes if template else "",
    )


def _with_wheels(arch: str) -> dict[str, str]:
    """The runtimes that have wheels for an architecture, with the versions that are known to work."""
    return {r.name: r.versions for r in registry.runtimes() if arch in r.architectures}


def _probe(target: Target) -> Facts:
    if target.device == "adb":
        return adb.phone(target.name, target.address).facts

    return ssh.session(target.name, Address.parse(target.address), target.python).facts
