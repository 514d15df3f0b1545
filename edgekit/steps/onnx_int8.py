"""onnx → onnx[int8]: static quantization in the QDQ format, per-channel weights, ranges from training data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from edgekit.compression.calibration.onnx import masked_tensors, ready
from edgekit.compression.calibration.ranges import Ranges, ranges
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, EdgekitError
from edgekit.core.mute import muted
from edgekit.core.step import Context, StepResult
from edgekit.core.target import Target
from edgekit.formats.onnx import read
from edgekit.steps.shared import onnx_bounded, onnx_slim, onnx_weight_only
from edgekit.steps.shared.calibrated import FEW_CLASSES, StaticInt8Step
from edgekit.steps.shared.coarse_constants import is_coarse

if TYPE_CHECKING:
    from onnx import ModelProto

#: operators that ONNX Runtime's quantizer would surround with Q and DQ though its CPU kernels compute them in float
FLOAT_ANYWAY = frozenset(("BatchNormalization", "CumSum", "InstanceNormalization", "LayerNormalization", "TopK"))


@dataclass(frozen=True)
class OnnxInt8(StaticInt8Step):
    """ONNX Runtime's static quantizer, with ranges from edgekit's calibration.

    `scheme` is activations x weights; "" takes what the target's instruction set computes exactly and fastest:
    u8s8 with VNNI, u8s8 with reduced weights on x86 without it (its sums would saturate), s8s8 on Arm.
    `calibration`: a SET; "" takes `samples` samples of the task's training split, and `method` chooses ranges from
    them; or `ranges` names an artifact of the calibrate step. `keep_float`: operators, by name, that stay in float.
    """

    accepts: ClassVar = kinds("onnx")
    produces: ClassVar[Kind] = Kind("onnx", frozenset({"int8"}))
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    scheme: Literal["", "u8s8", "u8s8-reduced", "s8s8"] = ""

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or SCHEMES.get(target.isa_class, "u8s8"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError for samples that do not fit, CannotConvert if the quantizer fails or finds nothing."""
        parent = inputs["parent"]
        path = out / "model.onnx"
        original = read(parent.path / "model.onnx")
        kept = self.kept((node.name for node in original.graph.node), parent)
        try:
            statistics = self.statistics(inputs, ctx)
            with muted(ctx.log, native=True, loggers=("root",)):
                model = ready(parent.path / "model.onnx")
                chosen = ranges(statistics, self.method)
                excluded = [*_excluded(original, model, kept), *_unfit(model), *_coarse(model, chosen)]
                stored_only = set(_excluded(original, model, self.weights_only))
                stored_only -= set(_excluded(original, model, self.keep_float))
                stored = self.quantize(model, chosen, excluded, stored_only, path)
        except (EdgekitError, OSError, MemoryError):
            raise
        except Exception as error:  # onnx, ONNX Runtime and the quantizer have many kinds
            why = " ".join(str(error).split())[:300] or type(error).__name__
            raise CannotConvert(f"ONNX Runtime cannot quantize {parent.name}", why, "try another format") from error
        if not _is_quantized(path):
            why = "it has no operator with weights that int8 is for"
            raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
        scheme = (
            f"{self.scheme or 'u8s8'} per-channel QDQ, {self.described(statistics)}{onnx_weight_only.described(stored)}"
        )
        details = {"float_operators": sorted(set(excluded))} if excluded else {}
        return StepResult(scheme, parent.identity_map(), details)

    def quantize(
        self, model: ModelProto, tensor_ranges: Ranges, excluded: list[str], stored_only: Collection[str], path: Path
    ) -> int:
        """Write the int8 model, each tensor quantized in its range; `excluded` nodes compute in float.

        Returns the number of operators with int8 weights only: recurrent ones, and the `stored_only` of the excluded.
        """
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        overrides = onnx_bounded.bound_weights(model.graph, excluded) if self.scheme == "u8s8-reduced" else {}
        floats = {name: (np.float32(low), np.float32(high)) for name, (low, high) in tensor_ranges.items()}
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if self.scheme == "s8s8" else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, floats),
            nodes_to_quantize=[],
            nodes_to_exclude=excluded,
            op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry} - FLOAT_ANYWAY),
            extra_options={"TensorQuantOverrides": overrides} if overrides else {},
        )
        quantizer.quantize_model()
        stored = onnx_weight_only.store(quantizer.model.model, excluded, stored_only)
        onnx_slim.slim(quantizer.model.model)
        quantizer.model.save_model_to_file(str(path))
        return stored


def _excluded(original: ModelProto, model: ModelProto, kept: Collection[str]) -> list[str]:
    """The nodes of the optimized model that compute the outputs of the original's operators `kept`.

    An operator that was fused with the next one (a Conv with its BatchNorm) is identified by that one's output.
    """
    written = {name for node in model.graph.node for name in node.output}
    outputs = {name for node in original.graph.node if node.name in kept for name in node.output if name}
    lost = outputs - written
    while lost:
        after = {name for node in original.graph.node if lost & set(node.input) for name in node.output} - outputs
        outputs |= after
        lost = after - written
    return [node.name for node in model.graph.node if outputs & set(node.output)]


def _unfit(model: ModelProto) -> list[str]:
    """Operators that the quantizer's scales do not fit: grouped transposed convolutions with a bias, Gemms whose bias
    has several rows, what computes with infinities, and limits that exclude zero."""
    nodes = [node for node in model.graph.node if node.op_type == "ConvTranspose" and len(node.input) > 2]
    grouped = [node.name for node in nodes if any(a.name == "group" and a.i > 1 for a in node.attribute)]
    several = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2]
    masked = masked_tensors(model.graph)
    softmax = _over_many_classes(model)
    infinite = [node.name for node in model.graph.node if masked & {*node.input, *node.output}]
    clips = _excluding_zero(model)
    return [*grouped, *infinite, *softmax, *clips, *(node.name for node in gemms if node.input[2] in several)]


def _excluding_zero(model: ModelProto) -> Iterator[str]:
    """Clips to limits on one side of zero. The quantizer removes a Clip, whose limits the range of its output keeps;
    but every range includes zero."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in (node for node in model.graph.node if node.op_type == "Clip"):
        limits = [constants.get(name) for name in node.input[1:3]]
        least, most = (None if t is None else float(numpy_helper.to_array(t)) for t in [*limits, None, None][:2])
        if (least or 0.0) > 0 or (most or 0.0) < 0:
            yield node.name


def _coarse(model: ModelProto, tensor_ranges: Ranges) -> Iterator[str]:
    """Sums and products with a constant that int8 would round too coarsely for their output."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == tensor.FLOAT}
    for node in model.graph.node:
        if node.op_type not in ("Add", "Mul") or node.output[0] not in tensor_ranges:
            continue
        for name, other in (node.input, reversed(node.input)):
            if name in constants and (factor := tensor_ranges.get(other)):
                values, output = numpy_helper.to_array(constants[name]), tensor_ranges[node.output[0]]
                if values.size and is_coarse(values, output, factor if node.op_type == "Mul" else None):
                    yield node.name


def _over_many_classes(model: ModelProto) -> list[str]:
    """Softmaxes whose output is the model's, most of whose probabilities would be below its step of 1/256."""
    classes = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in model.graph.output
        if value.type.tensor_type.shape.dim
    }
    nodes = (node for node in model.graph.node if node.op_type == "Softmax")
    return [node.name for node in nodes if classes.get(node.output[0], 0) > FEW_CLASSES]


def _is_quantized(path: Path) -> bool:
    import onnx

    return any(node.op_type == "QuantizeLinear" for node in onnx.load(str(path), load_external_data=False).graph.node)


#: instruction-set class → the scheme it computes exactly and fastest
SCHEMES: Mapping[str, Literal["u8s8", "u8s8-reduced", "s8s8"]] = {
    "x86-vnni": "u8s8",
    "x86": "u8s8-reduced",
    "arm64": "s8s8",
}
