"""onnx → onnx[dynamic]: int8 weights per channel, activations quantized at run time: no samples are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from edgekit.compression.calibration.onnx import ready
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, EdgekitError
from edgekit.core.mute import muted
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Target
from edgekit.core.temporary import temporary_folder
from edgekit.steps.shared import onnx_slim, onnx_weight_only

if TYPE_CHECKING:
    from onnx import ModelProto

#: operators that a dynamic model computes on integers, or whose weights it stores as integers
_OPERATORS = ("MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")
#: the operators that replace them
_MADE = frozenset("MatMulInteger ConvInteger DynamicQuantizeLSTM QAttention QEmbedLayerNormalization".split())


@dataclass(frozen=True)
class OnnxDynamic(Step):
    """ONNX Runtime's dynamic quantizer: matrix products and LSTMs on integers, embeddings stored as int8.

    GRUs have no integer kernel, and convolutions computed on integers would be several times slower than in float: only
    their weights are stored as int8 (see `shared/onnx_weight_only.py`). `scheme` is activations x weights; "" takes
    what the target's instruction set computes exactly: u8s8, with 7-bit weights on x86 without VNNI (its sums would
    saturate). `weight_only`: products and LSTMs are computed in float, too, from their int8 weights.
    """

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"dynamic"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    scheme: Literal["", "u8s8", "u8s8-reduced"] = ""
    weight_only: bool = False

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or ("u8s8-reduced" if target.isa_class == "x86" else "u8s8"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if the quantizer fails, or has nothing to quantize."""
        import onnx

        parent = inputs["parent"]
        try:
            with muted(ctx.log, native=True):
                model = self._quantized(ready(parent.path / "model.onnx"))
        except (EdgekitError, OSError, MemoryError):
            raise
        except Exception as error:  # onnx, ONNX Runtime and the quantizer have many kinds
            why = " ".join(str(error).split())[:300] or type(error).__name__
            raise CannotConvert(f"ONNX Runtime cannot quantize {parent.name}", why, "try another format") from error
        stored_only = onnx_weight_only.CONVOLUTIONS + (onnx_weight_only.PRODUCTS if self.weight_only else ())
        stored = onnx_weight_only.store(model, chosen=list(_named(model, stored_only)))
        types = {node.op_type for node in model.graph.node}
        if not stored and not types & _MADE and not _has_int8(model):
            why = f"it has no weights of {onnx_weight_only.SMALL:,} values or more that int8 is for"
            raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
        onnx_slim.slim(model)
        onnx.save(model, str(out / "model.onnx"))
        how = f"{self.scheme or 'u8s8'} per-channel weights, activations quantized as they come"
        how += onnx_weight_only.described(stored)
        return StepResult(
            "int8 weights per channel, computed in float32" if self.weight_only else how, parent.identity_map()
        )

    def _quantized(self, model: ModelProto) -> ModelProto:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with temporary_folder() as folder:
            source, quantized = folder / "source.onnx", folder / "quantized.onnx"
            onnx.save(model, str(source))
            quantize_dynamic(
                str(source),
                str(quantized),
                op_types_to_quantize=["Gather"] if self.weight_only else list(_OPERATORS),
                per_channel=True,
                reduce_range=self.scheme == "u8s8-reduced",
                weight_type=QuantType.QInt8,
            )
            return onnx.load(str(quantized))


def _named(model: ModelProto, types: tuple[str, ...]) -> Iterator[str]:
    """The names of the operators of these types, which they are given where they have none."""
    for index, node in enumerate(model.graph.node):
        if node.op_type in types:
            node.name = node.name or f"{node.op_type}_{index}"
            yield node.name


def _has_int8(model: ModelProto) -> bool:
    """Is any weight stored as int8 (an embedding)?"""
    import onnx

    return any(t.data_type == onnx.TensorProto.INT8 and len(t.dims) >= 2 for t in model.graph.initializer)
