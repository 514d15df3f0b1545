"""nothing → onnx: a .onnx file that holds all its weights, from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgekit.steps._import import ImportStep


@dataclass(frozen=True)
class ImportOnnx(ImportStep):
    """`path`: a .onnx file that holds all its weights; `precision`: what it is quantized to already, "" for float."""

    format: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    needs: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx",)
