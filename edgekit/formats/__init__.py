"""Formats, one module each: facts about a model file, read without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgekit.core import registry
from edgekit.core.artifact import Kind, TensorSpec, tensor_specs
from edgekit.core.json import read

#: beside a model whose own file names no tensors or shapes
SPECS = "model.specs.json"


def model_file(kind: Kind, folder: Path) -> Path:
    """The file in an artifact's folder that a runtime loads."""
    return folder / str(registry.load("formats", kind.format).file)


def write_specs(folder: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """State a model's inputs and outputs beside it, for a format whose file does not; its step calls this."""
    sides = {"inputs": inputs, "outputs": outputs}
    text = json.dumps({side: [spec.to_json() for spec in specs] for side, specs in sides.items()})
    (folder / SPECS).write_text(text + "\n", encoding="utf-8")


def read_specs(folder: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs that `write_specs` stated; the format's `describe` calls this, and counts the file's bytes
    as metadata. Raises InputError for what is missing or damaged."""
    sides = read(folder / SPECS)
    return tensor_specs(sides, "inputs", folder / SPECS), tensor_specs(sides, "outputs", folder / SPECS)
