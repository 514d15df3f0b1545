"""The steps that convert one format to another, and which of them are installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from edgekit.core import registry
from edgekit.core.artifact import Kind
from edgekit.core.errors import InputError
from edgekit.core.step import Step
from edgekit.core.target import Target
from edgekit.core.task import Task
from edgekit.measure import targets
from edgekit.runs.references import ModelReference
from edgekit.runs.store import tools


def format_of(ref: ModelReference) -> str:
    """The format of the artifact or foreign model that a reference names."""
    if ref.foreign:
        return str(registry.load("steps", ref.importer).format)
    return ref.artifact().kind.format


def route(source: str, format: str) -> list[str]:
    """The steps from one format to another: an exporter that accepts the source, else one after `to_torch`.

    A route may be impossible: `chains.extend` raises the error, since it knows the artifact's name.
    """
    if source == format:
        return []
    exporter = f"to_{format}"
    direct = accepts(exporter, source) or not accepts("to_torch", source)
    return [exporter] if direct else ["to_torch", exporter]


def accepts(step: str, format: str) -> bool:
    """Is there such a step, and does it accept float models of that format?"""
    return step in registry.names("steps") and Kind(format) in registry.load("steps", step).accepts


def fields_of(step: str) -> frozenset[str]:
    """The options of a step; none where there is no such step."""
    if step not in registry.names("steps"):
        return frozenset()
    return frozenset(field.name for field in dataclasses.fields(registry.load("steps", step)))


def check_options(options: Collection[str], chains: Mapping[str, Sequence[str]]) -> None:
    """Raises InputError if no step on the way to a format has one of the options."""
    for format, chain in chains.items():
        if absent := sorted(set(options) - {field for step in chain for field in fields_of(step)}):
            having = [name for name in registry.names("steps") if absent[0] in fields_of(name)]
            why = f"only {', '.join(having)} has it" if having else "no step has it"
            what = f"the conversion to {format} has no option {absent[0].replace('_', '-')}"
            raise InputError(what, why, "leave it out, or name other formats with --to")


def installed(step: str) -> bool:
    """Are all packages of the step installed?"""
    return all(tools(registry.load("steps", step)()).values())


def lowered(format: str, precision: str) -> bool:
    """Is this format quantized before it is lowered: does its step accept torch, but no float model of the format?"""
    step = f"{format}_{precision}"
    return accepts(step, "torch") and not accepts(step, format)


def quantizable(precision: str) -> list[str]:
    """The formats that a torch network can be quantized to with this precision, with the installed packages."""
    exported = [name for name in installed_exporters() if f"{name}_{precision}" in registry.names("steps")]
    steps = [name for name, _ in registry.members("steps", suffix=f"_{precision}") if installed(name)]
    formats = [name.removesuffix(f"_{precision}") for name in steps]
    return exported + [name for name in formats if name not in exported and lowered(name, precision)]


def float_route(source: str, format: str, precision: str) -> list[str]:
    """The steps to the float reference of this format and precision: the format's float model if it can be exported,
    else the torch network."""
    exporter = f"to_{format}"
    from_torch = lowered(format, precision) and not (exporter in registry.names("steps") and installed(exporter))
    return route(source, "torch" if from_torch else format)


def step_named(name: str, fields: dict[str, Any], task: Task | None) -> Step:
    try:
        cls = registry.load("steps", name)
    except InputError as error:
        format, _, precision = name.rpartition("_")
        what = f"there is no {precision} for {format}" if format != "to" else f"cannot export to {precision}"
        known = ", ".join(n for n in registry.names("steps") if not n.startswith("import_"))
        raise InputError(what, error.what, f"use one of these steps: {known}") from error
    known_fields = {field.name for field in dataclasses.fields(cls)}
    step: Step = cls(**{k: v for k, v in fields.items() if k in known_fields})
    return step


def suffix_of(target: Target) -> str:
    """The suffix of an artifact's name if it was made for another instruction set than the host's, else ""."""
    other = target.name != "host" and targets.load("host").isa_class != target.isa_class
    return f"@{target.isa_class}" if other else ""


def installed_exporters() -> tuple[str, ...]:
    formats = tuple(name.removeprefix("to_") for name, _ in registry.members("steps", "to_") if installed(name))
    if not formats:
        raise InputError("no exporter is installed", next="pip install 'edgekit-toolkit[onnx]'")
    return formats
