"""openvino → openvino[fp16]: weights stored in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.mute import muted
from edgekit.core.step import Context, Step, StepResult
from edgekit.runtimes.openvino import no_telemetry


@dataclass(frozen=True)
class OpenvinoFp16(Step):
    """Half the size. The runtime chooses the compute precision when it loads the model: inputs and outputs stay
    float32, and with float32 arithmetic the outputs differ only by the rounding of the weights."""

    accepts: ClassVar = kinds("openvino")
    produces: ClassVar[Kind] = Kind("openvino", frozenset({"fp16"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        no_telemetry()
        import openvino

        parent = inputs["parent"]
        with muted(ctx.log):
            model = openvino.Core().read_model(parent.path / "model.xml")
            openvino.save_model(model, out / "model.xml", compress_to_fp16=True)
        return StepResult(scheme="float16 weights", tensors=parent.identity_map())
