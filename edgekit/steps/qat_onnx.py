"""torch[ranges] → onnx[int8]: the network after QAT, with the ranges of its training, in the QDQ format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from edgekit.core.artifact import Kind
from edgekit.core.step import Step
from edgekit.core.target import Target
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.steps.shared.calibrated import StaticInt8Step
from edgekit.steps.shared.trained_ranges import TrainedInt8Step
from edgekit.steps.to_onnx import ToOnnx


@dataclass(frozen=True)
class QatOnnx(TrainedInt8Step):
    """As onnx_int8 makes it, in the ranges of the training. `scheme` is as for onnx_int8."""

    produces: ClassVar[Kind] = OnnxInt8.produces
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxruntime", "onnxscript")

    scheme: Literal["", "u8s8", "u8s8-reduced", "s8s8"] = ""

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=OnnxInt8(scheme=self.scheme).resolve(target).scheme)

    def steps(self) -> tuple[Step, StaticInt8Step]:
        return ToOnnx(), OnnxInt8(scheme=self.scheme)
