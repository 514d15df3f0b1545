"""onnx → onnx[w8]: weights of products and embeddings in 8 bits; activations stay float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.steps.shared.onnx_weights import OnnxWeights, level_of
from edgekit.steps.shared.weight_only_step import WeightOnlyStep


@dataclass(frozen=True)
class OnnxW8(WeightOnlyStep):
    """int8 that is dequantized when ONNX Runtime loads the model, or its MatMulNBits; integers are edgekit's.

    `accuracy_level`: 0 computes in float32, as fast as a float model, whose memory it takes. 4 is MatMulNBits, which
    keeps int8 in memory and rounds activations to int8 in blocks at run time: faster, above all for a token at a time,
    and less exact. -1: 4 for a model with states, which generates token by token, else 0.
    """

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"w8"}))
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    bits: ClassVar[int] = 8

    accuracy_level: Literal[-1, 0, 4] = -1

    def weights(self, path: Path, parent: Artifact) -> OnnxWeights:
        return OnnxWeights(path, level_of(self.accuracy_level, parent))
