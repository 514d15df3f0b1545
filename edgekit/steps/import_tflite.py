"""nothing → tflite: import a .tflite file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgekit.steps.shared.imported import ImportStep


@dataclass(frozen=True)
class ImportTflite(ImportStep):
    """`path`: a .tflite file; `precision`: what it is quantized to already, "" for float."""

    format: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
