"""onnx → onnx[w4]: weights of products and embeddings in 4 bits; activations stay float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.steps.shared.onnx_weights import OnnxWeights, level_of
from edgekit.steps.shared.weight_only_step import WeightOnlyStep


@dataclass(frozen=True)
class OnnxW4(WeightOnlyStep):
    """ONNX Runtime's MatMulNBits and GatherBlockQuantized, with integers of edgekit's.

    `accuracy_level`: 0 computes products in float32; 4 rounds activations to int8 in blocks at run time, as dynamic
    quantization does, which is several times as fast for one token at a time; -1: 4 for a model with states, else 0.
    """

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"w4"}))
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    bits: ClassVar[int] = 4

    accuracy_level: Literal[-1, 0, 4] = -1

    def weights(self, path: Path, parent: Artifact) -> OnnxWeights:
        return OnnxWeights(path, level_of(self.accuracy_level, parent))
