"""nothing → openvino: import an OpenVINO IR, a .xml file and its .bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgekit.steps.shared.imported import ImportStep


@dataclass(frozen=True)
class ImportOpenvino(ImportStep):
    """`path`: the IR's .xml, its .bin next to it; `precision`: what it is quantized to already, "" for float."""

    format: ClassVar[str] = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    beside: ClassVar[tuple[str, ...]] = (".bin",)
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)
