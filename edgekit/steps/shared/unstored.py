"""Intermediate float models of a step, outside any store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.step import Context, Step


def unstored(exporter: Step, inputs: Mapping[str, Artifact], folder: Path, ctx: Context) -> Artifact:
    """Export the network to a float file; the artifact is in no store."""
    exporter.apply(inputs, folder, ctx)
    kind: Kind = exporter.produces
    format = registry.load("formats", kind.format)
    facts = format.describe(folder / str(format.file))
    parent = inputs["parent"]
    return replace(
        parent, kind=kind, inputs=facts.inputs, outputs=facts.outputs, sizes=facts.sizes, files={}, path=folder
    )
