"""Steps that go wrong on purpose, and some that only copy."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.step import ArtifactRef, Context, Step, StepResult
from edgekit.steps.to_onnx import ToOnnx


@dataclass(frozen=True)
class ToFlipped(Step):
    """An exporter that swaps the height and the width of its input: every shape still fits, every answer is wrong."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("onnx")
    preserves: ClassVar = "outputs"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar = ("torch", "onnx")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import onnx

        notes = ToOnnx().apply(inputs, out, ctx)
        model = onnx.load(str(out / "model.onnx"))
        name = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["flipped" if used == name else used for used in node.input]
        model.graph.node.insert(0, onnx.helper.make_node("Transpose", [name], ["flipped"], perm=[0, 1, 3, 2]))
        onnx.save(model, str(out / "model.onnx"))
        return notes


def _rewrite(parent: Path, out: Path, change: Any) -> None:
    """The model with `change` applied to every weight of rank 2 or more."""
    import onnx

    model = onnx.load(str(parent / "model.onnx"))
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim >= 2 and array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(change(array), np.float32), tensor.name))
    onnx.save(model, str(out / "model.onnx"))


@dataclass(frozen=True)
class OnnxWrecked(Step):
    """A compressor that loses the accuracy."""

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"int8"}))
    preserves: ClassVar = "accuracy"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar = ("onnx",)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        _rewrite(inputs["parent"].path, out, np.negative)
        return StepResult(scheme="wrecked")


@dataclass(frozen=True)
class OnnxNan(Step):
    """A compressor whose model answers NaN."""

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"fp16"}))
    preserves: ClassVar = "accuracy"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar = ("onnx",)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        _rewrite(inputs["parent"].path, out, lambda weights: np.full_like(weights, np.nan))
        return StepResult(scheme="nan")


@dataclass(frozen=True)
class TorchCopy(Step):
    """The same network again; `teacher` names another artifact, as distillation would."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")
    preserves: ClassVar = "accuracy"

    teacher: ArtifactRef = ""
    note: str = ""

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        for name in ("model.json", "model.safetensors"):
            shutil.copyfile(inputs["parent"].path / name, out / name)
        return StepResult(details={"roles": {role: parent.name for role, parent in inputs.items()}})


@dataclass(frozen=True)
class SlowCopy(TorchCopy):
    """A copy that says it has begun (a file `started` beside the run) and then takes its time."""

    seconds: float = 60.0

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        (out.parent / "started").touch()
        for _ in ctx.progress(range(int(self.seconds * 20)), "waiting"):
            time.sleep(0.05)
        notes = super().apply(inputs, out, ctx)
        return dataclasses.replace(notes, scheme="slow")
