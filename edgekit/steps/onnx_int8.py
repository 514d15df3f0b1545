"""onnx → onnx[int8]: static quantization in the QDQ format, per-channel weights, calibrated on training data."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from edgekit.errors import InputError
from edgekit.types import Artifact, Context, Kind, Notes, SampleSet, Step, Target, Task, kinds


@dataclass(frozen=True)
class OnnxInt8(Step):
    """ONNX Runtime's static quantizer with min-max ranges.

    `scheme` is activations x weights; "" takes what the target's instruction set computes exactly and fastest:
    u8s8 with VNNI, u8s8 with 7-bit weights on x86 without it (its sums would saturate), s8s8 on Arm.
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    takes: ClassVar = kinds("onnx")
    gives: ClassVar[Kind] = Kind("onnx", frozenset({"int8"}))
    keeps: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    needs: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    scheme: Literal["", "u8s8", "u8s8-reduced", "s8s8"] = ""
    calibration: str = ""
    samples: int = 256

    def check(self, task: Task | None) -> Iterator[str]:
        if self.samples < 1:
            yield "samples must be at least 1"
        if task is None and not self.calibration:
            yield "there is no task to take calibration samples from: name a set in calibration"

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or SCHEMES.get(target.isa_class, "u8s8"))

    def sets(self, task: Task | None) -> Mapping[str, str]:
        training = f"{task.name}:train" if task else ""
        return {"calibration": self.calibration or training} if self.calibration or training else {}

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        parent = inputs["parent"]
        samples = list(_feeds(ctx.sets["calibration"], parent, self.samples))
        reader = _Reader(ctx.progress(samples, "calibrating", len(samples)))
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
        scheme = f"{self.scheme or 'u8s8'} per-channel QDQ, min-max over {len(samples)} samples"
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
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._feeds, None)


def _feeds(data: SampleSet, model: Artifact, count: int) -> Iterator[Mapping[str, Any]]:
    """Single samples as the model takes them. Raises InputError where they do not fit."""
    specs = {spec.name: spec for spec in model.inputs}
    arrays = dict(data.inputs)
    if len(specs) == 1 and len(arrays) == 1:
        arrays = {next(iter(specs)): next(iter(arrays.values()))}
    if set(arrays) != set(specs):
        names = f"the model takes {', '.join(sorted(specs))}; the set holds {', '.join(sorted(arrays))}"
        raise InputError(f"{data.name} does not fit {model.name}", names, "name the arrays as the model's inputs")
    for name, spec in specs.items():
        given, wanted = arrays[name].shape[1:], spec.shape[1:]
        if len(given) != len(wanted) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
            what = f"{name!r} takes {list(wanted)} per sample; the set holds {list(given)}"
            raise InputError(f"{data.name} does not fit {model.name}", what, "reshape the samples")
    for index in range(min(count, len(data))):
        yield {n: np.ascontiguousarray(arrays[n][index : index + 1], dtype=s.dtype) for n, s in specs.items()}
