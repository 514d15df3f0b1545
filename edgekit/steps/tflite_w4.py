"""tflite → tflite[w4]: weights of products and embeddings in 4 bits."""

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
class TfliteW4(WeightOnlyStep):
    """Blocks of int4 whose products LiteRT computes on integers: it rounds activations to int8 at run time."""

    accepts: ClassVar = kinds("tflite")
    produces: ClassVar[Kind] = Kind("tflite", frozenset({"w4"}))
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    bits: ClassVar[int] = 4

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if self.symmetric == "no":
            yield "LiteRT has no kernels for asymmetric weights"
        if self.weight_method == "awq":
            yield "awq is for ONNX and OpenVINO: use gptq"

    def weights(self, path: Path, parent: Artifact) -> TfliteWeights:
        return TfliteWeights(path)
