"""onnx → onnx[int8]: static quantization in the QDQ format, per-channel weights, calibrated on training data."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from edgekit.errors import CannotConvert, EdgekitError
from edgekit.steps._calibrated import CalibratedStep
from edgekit.steps.to_tflite import silent
from edgekit.types import Artifact, Context, Kind, Notes, Target, kinds

if TYPE_CHECKING:
    from onnx import ModelProto

#: the first opset whose DequantizeLinear has a scale per channel, and the file version that goes with it
MIN_OPSET, IR_VERSION = 13, 7


@dataclass(frozen=True)
class OnnxInt8(CalibratedStep):
    """ONNX Runtime's static quantizer with min-max ranges.

    `scheme` is activations x weights; "" takes what the target's instruction set computes exactly and fastest:
    u8s8 with VNNI, u8s8 with 7-bit weights on x86 without it (its sums would saturate), s8s8 on Arm.
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    takes: ClassVar = kinds("onnx")
    gives: ClassVar[Kind] = Kind("onnx", frozenset({"int8"}))
    needs: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    scheme: Literal["", "u8s8", "u8s8-reduced", "s8s8"] = ""

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or SCHEMES.get(target.isa_class, "u8s8"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        """Raises InputError for samples that do not fit, CannotConvert where the quantizer refuses or finds nothing."""
        parent = inputs["parent"]
        reader = _Reader(self.feeds(parent, ctx))
        try:
            with silent(ctx.log), _quiet_root():
                self._quantize(prepared(parent), reader, out / "model.onnx")
        except (EdgekitError, OSError, MemoryError):
            raise
        except Exception as error:  # onnx, ONNX Runtime and the quantizer have many kinds
            why = " ".join(str(error).split())[:300] or type(error).__name__
            raise CannotConvert(f"ONNX Runtime cannot quantize {parent.name}", why, "try another format") from error
        if not _is_quantized(out / "model.onnx"):
            why = "it has no operator with weights that int8 is for"
            raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
        scheme = f"{self.scheme or 'u8s8'} per-channel QDQ, min-max over {self.count(ctx)} samples"
        return Notes(scheme=scheme, tensors={s.name: s.name for s in (*parent.inputs, *parent.outputs)})

    def _quantize(self, model: ModelProto, reader: _Reader, path: Path) -> None:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        with tempfile.TemporaryDirectory() as folder:
            source, ready = Path(folder, "source.onnx"), Path(folder, "ready.onnx")
            onnx.save(model, str(source))
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(path),
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=self.scheme == "u8s8-reduced",
                activation_type=QuantType.QInt8 if self.scheme == "s8s8" else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )


def prepared(parent: Artifact) -> ModelProto:
    """The model as the quantizer wants it: all in one, weights that are no inputs, an opset with scales per channel."""
    import onnx
    from onnx import inliner, version_converter

    model = onnx.load(str(parent.path / "model.onnx"))
    if model.functions:
        model = inliner.inline_local_functions(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, IR_VERSION)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), MIN_OPSET)
    return model if opset >= MIN_OPSET else version_converter.convert_version(model, MIN_OPSET)


def _is_quantized(path: Path) -> bool:
    import onnx

    return any(node.op_type == "QuantizeLinear" for node in onnx.load(str(path), load_external_data=False).graph.node)


@contextlib.contextmanager
def _quiet_root() -> Iterator[None]:
    """The quantizer warns on the root logger about its own steps."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


#: instruction-set class → the scheme it computes exactly and fastest
SCHEMES: Mapping[str, Literal["u8s8", "u8s8-reduced", "s8s8"]] = {
    "x86-vnni": "u8s8",
    "x86": "u8s8-reduced",
    "arm64": "s8s8",
}


class _Reader:
    """Samples as ONNX Runtime's calibrator asks for them: one feed a call, then None."""

    def __init__(self, feeds: Iterator[Mapping[str, Any]]) -> None:
        self._feeds = feeds

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._feeds, None)
