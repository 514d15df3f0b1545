"""torch → torch: GPTQ rounds weights to int8 levels so that their errors compensate each other, for every runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.step import Context, StepResult
from edgekit.steps.shared.calibrated import CalibratedStep

#: samples whose activations decide the ranges, processed one by one
RANGED = 256


@dataclass(frozen=True)
class Gptq(CalibratedStep):
    """GPTQ (https://arxiv.org/abs/2210.17323): an int8 step keeps the weights of this network unchanged.

    Weights stay float32, on 255 quantization levels per output channel. `method` chooses the ranges in which
    activations are quantized meanwhile, from at least 256 samples. `calibration`: a SET; "" takes the task's training
    split, of which `samples` samples are used at once: memory grows with them. `seed` draws the positions that are
    used. `correct_biases` corrects each channel's bias by its remaining mean error. `bounded`: on the levels of the
    scheme u8s8-reduced, for x86 without VNNI.
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    samples: int = 32
    method: Literal["min-max", "percentile", "mse"] = "mse"
    seed: int = 0
    correct_biases: bool = False
    bounded: bool = False

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if no layer has weights, InputError if the samples do not fit."""
        from edgekit.compression import gptq, program, simulation

        parent = inputs["parent"]
        loaded = program.load(parent, ctx.log)
        if not loaded.layers():
            why = "no convolution or linear layer has weights of its own"
            raise CannotConvert(f"there is nothing to quantize in {parent.name}", why, "leave this step out")
        ranging = replace(self, samples=max(self.samples, RANGED))
        activation_ranges = simulation.observed_ranges(
            loaded.module, program.tensors(ranging.feeds(parent, ctx)), self.method
        )
        feeds = list(program.tensors(self.feeds(parent, ctx)))
        report = gptq.quantize(
            loaded, feeds, activation_ranges, self.seed, ctx.progress, ctx.log, self.correct_biases, self.bounded
        )
        program.write(loaded, parent, out, ctx.log)
        better = sum(entry.method != "nearest" for entry in report)
        grid = "grid of bounded weights" if self.bounded else "grid"
        scheme = f"float32 on the int8 {grid}, GPTQ for {better} of {len(report)} layers over {self.count(ctx)} samples"
        if self.correct_biases:
            scheme += f", {sum(entry.shifted for entry in report)} biases corrected"
        details = {key: parent.details[key] for key in ("example", "ranges") if key in parent.details}
        layers = [
            {"layer": e.layer, "method": e.method, "nearest_error": e.nearest_error, "error": e.error} for e in report
        ]
        return StepResult(scheme, parent.identity_map(), {**details, "layers": layers})
