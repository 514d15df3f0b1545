"""tflite → tflite[fp16]: half-precision weights; a runtime computes in float32 or, where it can, in float16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.mute import muted
from edgekit.core.step import Context, Step, StepResult
from edgekit.formats.tflite import packed, unpack


@dataclass(frozen=True)
class TfliteFp16(Step):
    """Float casting of weights: half the size. Inputs, outputs and biases stay float32."""

    accepts: ClassVar = kinds("tflite")
    produces: ClassVar[Kind] = Kind("tflite", frozenset({"fp16"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-quantizer", "ai-edge-litert")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        parent = inputs["parent"]
        with muted(ctx.log, native=True):
            from ai_edge_quantizer import qtyping, quantizer

            half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            casting = quantizer.Quantizer(str(parent.path / "model.tflite"))
            casting.update_quantization_recipe(
                ".*",
                qtyping.TFLOperationName.ALL_SUPPORTED,
                qtyping.OpQuantizationConfig(
                    weight_tensor_config=half,
                    compute_precision=qtyping.ComputePrecision.FLOAT,
                    explicit_dequantize=True,
                ),
                algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING,
            )
            raw = bytes(casting.quantize(enable_progress_report=False).quantized_model)
        path = out / "model.tflite"
        path.write_bytes(packed(unpack(raw, str(path))))
        return StepResult("float16 weights", parent.identity_map())
