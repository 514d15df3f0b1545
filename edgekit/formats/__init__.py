"""Formats, one module each: facts about a model file, read without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgekit.core import registry
from edgekit.core.artifact import Kind, TensorSpec
from edgekit.core.errors import InputError, os_errors

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
    with os_errors("read", folder / SPECS):
        raw = (folder / SPECS).read_bytes()
    try:
        sides = json.loads(raw)
        inputs, outputs = (tuple(map(TensorSpec.from_json, sides[side])) for side in ("inputs", "outputs"))
        return inputs, outputs
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / SPECS} does not describe tensors", "it is damaged", "make it again") from error
