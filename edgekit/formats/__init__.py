"""Formats, one module each: facts about a model file, read without running it."""

from __future__ import annotations

from pathlib import Path

from edgekit.core import registry
from edgekit.core.artifact import Kind


def model_file(kind: Kind, folder: Path) -> Path:
    """The file in an artifact's folder that a runtime loads."""
    return folder / str(registry.load("formats", kind.format).file)
