"""torch[ranges] → tflite[int8]: the network after QAT, with the ranges of its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgekit.core.artifact import Kind
from edgekit.core.step import Step
from edgekit.steps.shared.calibrated import StaticInt8Step
from edgekit.steps.shared.trained_ranges import TrainedInt8Step
from edgekit.steps.tflite_int8 import TfliteInt8
from edgekit.steps.to_tflite import ToTflite


@dataclass(frozen=True)
class QatTflite(TrainedInt8Step):
    """As tflite_int8 makes it, in the ranges of the training."""

    produces: ClassVar[Kind] = TfliteInt8.produces
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = (
        "torch",
        "litert-torch",
        "litert-converter",
        "ai-edge-quantizer",
        "ai-edge-litert",
    )

    def steps(self) -> tuple[Step, StaticInt8Step]:
        return ToTflite(), TfliteInt8()
