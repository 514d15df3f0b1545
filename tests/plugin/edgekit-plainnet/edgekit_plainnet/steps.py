"""torch → plainnet, and torch → plainnet[int8]: quantized before it is lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.step import Context, Step, StepResult
from edgekit.steps.shared.calibrated import CalibratedStep
from edgekit_plainnet.lowering import lowered, write
from edgekit_plainnet.runtime import run


@dataclass(frozen=True)
class ToPlainnet(Step):
    """Linear and convolutional layers, ReLU, max pooling, flatten, sums and products."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar = Kind("plainnet")
    preserves: ClassVar = "outputs"
    extra: ClassVar = "export"
    tools: ClassVar = ("torch",)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        parent = inputs["parent"]
        write(parent, *lowered(parent, ctx), out)
        return StepResult("float32", _same_names(parent))


@dataclass(frozen=True)
class PlainnetInt8(CalibratedStep):
    """Weights in int8 per channel; activations in int8, by the largest value that the calibration samples reach.

    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar = Kind("plainnet", frozenset({"int8"}))
    extra: ClassVar = "export"
    tools: ClassVar = ("torch",)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        parent = inputs["parent"]
        layers, arrays = lowered(parent, ctx)
        heavy = [layer for layer in layers if "weight" in layer]
        for feed in self.feeds(parent, ctx):
            values = run(layers, arrays, feed)
            for layer in heavy:
                largest = float(np.abs(values[layer["inputs"][0]]).max())
                layer["scale"] = max(layer.get("scale", 1e-9), largest / 127)
        for layer in heavy:
            weights = arrays[layer["weight"]]
            scale = np.abs(weights).reshape(len(weights), -1).max(1).clip(1e-9) / 127
            rounded = np.rint(weights / scale.reshape(-1, *[1] * (weights.ndim - 1)))
            arrays[layer["weight"]], arrays[layer["weight"] + ".scale"] = rounded.astype(np.int8), scale
        write(parent, layers, arrays, out)
        return StepResult(f"s8s8 per-channel, min-max over {self.count(ctx)} samples", _same_names(parent))


def _same_names(parent: Artifact) -> dict[str, str]:
    return {spec.name: spec.name for spec in (*parent.inputs, *parent.outputs)}
