"""torch[ranges] → openvino[int8]: the network after QAT, with the ranges of its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from edgekit.core.artifact import Kind
from edgekit.core.step import Step
from edgekit.core.target import Target
from edgekit.steps.openvino_int8 import OpenvinoInt8
from edgekit.steps.shared.calibrated import StaticInt8Step
from edgekit.steps.shared.trained_ranges import TrainedInt8Step
from edgekit.steps.to_openvino import ToOpenvino


@dataclass(frozen=True)
class QatOpenvino(TrainedInt8Step):
    """As openvino_int8 makes it, in the ranges of the training. `scheme` is as for openvino_int8."""

    produces: ClassVar[Kind] = OpenvinoInt8.produces
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("torch", "openvino", "nncf")

    scheme: Literal["", "u8s8", "u8s8-reduced"] = ""

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=OpenvinoInt8(scheme=self.scheme).resolve(target).scheme)

    def steps(self) -> tuple[Step, StaticInt8Step]:
        return ToOpenvino(), OpenvinoInt8(scheme=self.scheme)
