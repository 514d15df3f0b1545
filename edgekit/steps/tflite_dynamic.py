"""tflite → tflite[dynamic]: int8 weights per channel, activations quantized at run time: no samples are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, EdgekitError
from edgekit.core.mute import muted
from edgekit.core.step import Context, Step, StepResult
from edgekit.formats.tflite import Tflite, packed, unpack
from edgekit.steps.shared import tflite_embeddings


@dataclass(frozen=True)
class TfliteDynamic(Step):
    """ai-edge-quantizer's dynamic recipe: products of int8 weights with activations quantized at run time.

    Inputs, outputs and everything between such operators stay float32. `weight_only`: products are computed in float,
    too, from int8 weights that XNNPACK makes floats of when it loads the model.
    """

    accepts: ClassVar = kinds("tflite")
    produces: ClassVar[Kind] = Kind("tflite", frozenset({"dynamic"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-quantizer", "ai-edge-litert")

    weight_only: bool = False

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if the quantizer fails, or has nothing to quantize."""
        parent = inputs["parent"]
        with muted(ctx.log, native=True):
            from ai_edge_quantizer import quantizer, recipe

            rules = recipe.weight_only_wi8_afp32() if self.weight_only else recipe.dynamic_wi8_afp32()
            try:
                dynamic = quantizer.Quantizer(str(parent.path / "model.tflite"), [*rules, tflite_embeddings.in_int8()])
                raw = bytes(dynamic.quantize(enable_progress_report=False).quantized_model)
            except (EdgekitError, OSError, MemoryError):
                raise
            except Exception as error:  # it has many kinds, plain KeyErrors and AssertionErrors among them
                why = " ".join(str(error).split())[:300] or type(error).__name__
                raise CannotConvert(
                    f"ai-edge-quantizer cannot quantize {parent.name}", why, "try tflite_fp16"
                ) from error
        path = out / "model.tflite"
        path.write_bytes(packed(unpack(raw, str(path))))
        if not Tflite.describe(path).traits & {"dynamic", "w8"}:
            why = "it has no operator with weights that int8 is for"
            raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
        how = "computed in float32" if self.weight_only else "activations quantized as they come"
        scheme = f"int8 weights per channel, {how}"
        return StepResult(scheme, parent.identity_map())
