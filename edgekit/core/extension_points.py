"""Everything that a package may add to edgekit, and what each kind of member must and may offer.

    group        a member is                       it must offer                       what it may offer
    steps        a frozen dataclass, from Step     produces, apply                    core/step.py: Step
    runtimes     a class of its own, Python 3.8    formats, package, prepare_imports, core/runtime.py: Runtime
                                                   __init__, bind, facts
    devices      a class, from Device              provenance, facts, run             core/device.py: Device
    tasks        a class, from Task                name, load, loss, score            core/task.py: Task
    formats      a class, from Format              file, describe                     core/format.py: Format
    models       a function or class that returns  –                                  –
                 a torch.nn.Module

The registry checks a member when it is loaded: what is optional then has a value, its base's default or its own.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgekit.core.device import Device
from edgekit.core.format import Format
from edgekit.core.runtime import METHODS, Runtime
from edgekit.core.step import Step
from edgekit.core.task import Task


@dataclass(frozen=True)
class ExtensionPoint:
    """`base`: the class that members inherit, None for those that stand alone. `must`: what has no default."""

    base: type | None
    must: tuple[str, ...]

    def problems(self, member: Any) -> Iterator[str]:
        """What a member lacks, a sentence each."""
        if not self.must:
            if not callable(member):
                yield f"it is a {type(member).__name__}, not a function or class that returns a network"
            return
        if not isinstance(member, type):
            yield f"it is a {type(member).__name__}, not a class"
            return
        if self.base is not None and not issubclass(member, self.base):
            yield f"it does not inherit {self.base.__module__}.{self.base.__name__}"
        inherited = self.base or object
        lacks = [n for n in self.must if getattr(member, n, None) in (None, getattr(inherited, n, None))]
        if lacks:
            yield f"it has no {', '.join(lacks)}"


POINTS = {
    "steps": ExtensionPoint(Step, ("produces", "apply")),
    "runtimes": ExtensionPoint(None, ("formats", "package", "__init__", *METHODS)),
    "devices": ExtensionPoint(Device, ("provenance", "facts", "run")),
    "tasks": ExtensionPoint(Task, ("load", "loss", "score")),
    "models": ExtensionPoint(None, ()),
    "formats": ExtensionPoint(Format, ("file", "describe")),
}


def problems(group: str, name: str, member: Any) -> list[str]:
    """What a member of a group lacks, or declares with a value of the wrong type; empty for a good one."""
    lacks = list(POINTS[group].problems(member))
    if group == "steps" and not lacks and not dataclasses.is_dataclass(member):
        lacks.append("it is not a dataclass")
    if group == "runtimes" and not lacks:
        lacks += _mistyped(name, member)
    return lacks


def runtime(name: str, cls: type) -> Runtime:
    """What a runtime's class declares, with the default for what it does not."""
    optional = {f.name for f in dataclasses.fields(Runtime)} - {"name", "cls"}
    return Runtime(name=name, cls=cls, **{key: getattr(cls, key) for key in optional if hasattr(cls, key)})


def _mistyped(name: str, cls: type) -> Iterator[str]:
    declared = runtime(name, cls)
    hints = typing.get_type_hints(Runtime)
    for field in dataclasses.fields(Runtime):
        value, hint = getattr(declared, field.name), hints[field.name]
        if typing.get_origin(hint) is tuple:
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                yield f"{field.name!r} must be a tuple of strings, not {value!r}"
        elif hint in (str, bool) and not isinstance(value, hint):
            yield f"{field.name!r} must be a {hint.__name__}, not {value!r}"
    if not declared.formats:
        yield "'formats' names no format"
