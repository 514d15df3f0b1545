"""Which steps lead from one format to another, and which of them are installed."""

from __future__ import annotations

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
    """The format of the artifact, or of the foreign model, that a word names."""
    if ref.foreign:
        return str(registry.load("steps", ref.importer).format)
    return ref.artifact().kind.format


def route(source: str, format: str) -> list[str]:
    """The steps from one format to another; a foreign ONNX file goes through torch where no exporter takes it as it is.

    What is not possible is left for `api._extend` to refuse, since it knows the artifact's name.
    """
    if source == format:
        return []
    exporter = f"to_{format}"
    direct = exporter in registry.names("steps") and Kind(source) in registry.load("steps", exporter).accepts
    return [exporter] if direct or source != "onnx" else ["to_torch", exporter]


def step_named(name: str, fields: dict[str, Any], task: Task | None) -> Step:
    try:
        cls = registry.load("steps", name)
    except InputError as error:
        format, _, precision = name.rpartition("_")
        what = f"there is no {precision} for {format}" if format != "to" else f"cannot export to {precision}"
        known = ", ".join(n for n in registry.names("steps") if not n.startswith("import_"))
        raise InputError(what, error.what, f"the steps there are: {known}") from error
    known_fields = getattr(cls, "__dataclass_fields__", {})
    step: Step = cls(**{k: v for k, v in fields.items() if k in known_fields})
    return step


def suffix_of(target: Target) -> str:
    """What is added to the name of an artifact that was made for other instructions than the host's."""
    other = target.name != "host" and targets.load("host").isa_class != target.isa_class
    return f"@{target.isa_class}" if other else ""


def installed_exporters() -> tuple[str, ...]:
    names = [name for name in registry.names("steps") if name.startswith("to_")]
    found = tuple(n.removeprefix("to_") for n in names if all(tools(registry.load("steps", n)()).values()))
    if not found:
        raise InputError("no exporter is installed", next="pip install 'edgekit-toolkit[onnx]'")
    return found
