"""tflite → tflite[w8]: weights of products and embeddings in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.task import Task
from edgekit.steps.shared.tflite_weights import TfliteWeights
from edgekit.steps.shared.weight_only_step import WeightOnlyStep


@dataclass(frozen=True)
class TfliteW8(WeightOnlyStep):
    """int8 that operators dequantize to float: near to float, and as fast in LiteRT."""

    accepts: ClassVar = kinds("tflite")
    produces: ClassVar[Kind] = Kind("tflite", frozenset({"w8"}))
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    bits: ClassVar[int] = 8

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if self.symmetric == "no":
            yield "LiteRT has no kernels for asymmetric weights"
        if self.weight_method == "awq":
            yield "awq is for ONNX and OpenVINO: use gptq"

    def weights(self, path: Path, parent: Artifact) -> TfliteWeights:
        return TfliteWeights(path)
