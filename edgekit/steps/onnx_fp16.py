"""onnx → onnx[fp16]: half-precision weights and activations, float32 at the edges."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.step import Context, Step, StepResult


@dataclass(frozen=True)
class OnnxFp16(Step):
    """ONNX Runtime's own converter; inputs and outputs stay float32. Half the size; on a CPU without half-precision
    kernels the runtime casts back to float32, so it is seldom faster there."""

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"fp16"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        parent = inputs["parent"]
        model = onnx.load(str(parent.path / "model.onnx"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every value too small for half precision
            half = convert_float_to_float16(model, keep_io_types=True)
        OnnxModel(half).topological_sort()  # the converter appends its casts of the inputs at the end
        onnx.save(half, str(out / "model.onnx"))
        return StepResult(scheme="float16 weights and activations", tensors=parent.identity_map())
