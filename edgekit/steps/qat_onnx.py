"""torch[ranges] → onnx[int8]: what quantization-aware training learnt, its ranges kept, in the QDQ format."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from edgekit.errors import CannotConvert
from edgekit.quantization.ranges import ranges
from edgekit.steps import onnx_int8, to_onnx
from edgekit.steps._calibrated import CalibratedStep
from edgekit.steps.equalize import sources
from edgekit.steps.to_tflite import silent
from edgekit.types import Artifact, Context, Kind, Notes, Target, kinds

if TYPE_CHECKING:
    from edgekit.quantization.histograms import Histogram

#: how near two tensors' extremes must be, as a share of their span, and how much of their histograms may differ
SAME_ENDS, SAME_COUNTS = 1e-3, 0.02


@dataclass(frozen=True)
class QatOnnx(CalibratedStep):
    """ONNX Runtime's quantizer, given the trained ranges; tensors that training did not round get what is seen of them.

    A tensor of the file is one of the program where it holds the same values over the calibration samples.
    `scheme` is as for onnx_int8. `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    takes: ClassVar = kinds("torch[ranges]")
    gives: ClassVar[Kind] = Kind("onnx", frozenset({"int8"}))
    needs: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxruntime", "onnxscript")

    samples: int = 64
    scheme: Literal["", "u8s8", "u8s8-reduced", "s8s8"] = ""

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or onnx_int8.SCHEMES.get(target.isa_class, "u8s8"))

    def sources(self) -> tuple[Path, ...]:
        steps = (Path(onnx_int8.__file__), Path(to_onnx.__file__))
        return (*super().sources(), *steps, *sources("program", "weights", "simulation", "qat"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        """Raises CannotConvert where a trained range has no tensor in the file; else as to_onnx and onnx_int8 do."""
        from edgekit.quantization import program, qat, simulation
        from edgekit.quantization.observers.onnx import observe, ready

        parent = inputs["parent"]
        trained = qat.load_ranges(parent.path / qat.RANGES)
        loaded = program.load(parent, ctx.log)
        ours = simulation.observe(loaded.module, program.tensors(self.feeds(parent, ctx)))
        if lost := set(trained) - set(ours):
            why = f"the program has no {min(lost)!r}"
            raise CannotConvert(f"the trained ranges of {parent.name} are of another program", why, "train it again")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            to_onnx.ToOnnx().apply(inputs, path.parent, ctx)
            theirs = observe(path, self.feeds(parent, ctx), ctx)
            model = ready(path)
        found = ranges(theirs, "min-max")
        for name, range in trained.items():
            same = [other for other, histogram in theirs.items() if alike(ours[name], histogram)]
            if not same:
                why = f"the file has no tensor with the values of {name!r}, which training rounded"
                raise CannotConvert(f"the ranges of {parent.name} cannot be kept in onnx", why, "use onnx_int8 instead")
            found |= dict.fromkeys(same, range)
        with silent(ctx.log), onnx_int8.quiet_root():
            onnx_int8.OnnxInt8(scheme=self.scheme).quantize(model, found, [], out / "model.onnx")
        scheme = f"{self.scheme or 'u8s8'} per-channel QDQ, {len(trained)} trained ranges"
        return Notes(scheme, {spec.name: spec.name for spec in (*parent.inputs, *parent.outputs)})


def alike(first: Histogram, second: Histogram) -> bool:
    """Do both hold the same values, up to rounding?"""
    if first.count != second.count:
        return False
    span = max(first.maximum - first.minimum, 1e-12)
    ends = max(abs(first.minimum - second.minimum), abs(first.maximum - second.maximum))
    moved = int(np.abs(first.counts - second.counts).sum())
    return ends <= SAME_ENDS * span and moved <= 2 * SAME_COUNTS * int(first.counts.sum())
