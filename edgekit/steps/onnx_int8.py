"""onnx → onnx[int8]: static quantization in the QDQ format, per-channel weights, calibrated on training data."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from edgekit.steps._calibrated import CalibratedStep
from edgekit.types import Artifact, Context, Kind, Notes, Target, kinds


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
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        parent = inputs["parent"]
        reader = _Reader(self.feeds(parent, ctx))
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # the quantizer warns on the root logger about its own steps
        try:
            with tempfile.TemporaryDirectory() as folder:
                prepared = Path(folder, "prepared.onnx")
                quant_pre_process(str(parent.path / "model.onnx"), str(prepared), skip_symbolic_shape=True)
                quantize_static(
                    str(prepared),
                    str(out / "model.onnx"),
                    reader,
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=self.scheme == "u8s8-reduced",
                    activation_type=QuantType.QInt8 if self.scheme == "s8s8" else QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                )
        finally:
            root.setLevel(level)
        scheme = f"{self.scheme or 'u8s8'} per-channel QDQ, min-max over {self.count(ctx)} samples"
        return Notes(scheme=scheme, tensors={s.name: s.name for s in (*parent.inputs, *parent.outputs)})


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
