"""tflite → tflite[int8]: weights per channel, activations, inputs and outputs in int8, calibrated on training data."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.formats.tflite import Model, read, unpack
from edgekit.steps._calibrated import CalibratedStep
from edgekit.steps.to_tflite import packed, silent
from edgekit.types import Artifact, Context, Kind, Notes, kinds

#: tensor name → (smallest, largest) value seen
Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class TfliteInt8(CalibratedStep):
    """ai-edge-quantizer with min-max ranges from a pass of our own.

    Its own calibration is a moving average, whose ranges are narrower than the true ones and lose accuracy.
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    takes: ClassVar = kinds("tflite")
    gives: ClassVar[Kind] = Kind("tflite", frozenset({"int8"}))
    needs: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-quantizer", "ai-edge-litert")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        """Raises InputError where the samples do not fit, or the quantizer refuses the model."""
        parent = inputs["parent"]
        source, path = parent.path / "model.tflite", out / "model.tflite"
        ranges = observe(source, self.feeds(parent, ctx), ctx)
        with silent(ctx.log), tempfile.TemporaryDirectory() as folder:
            raw = quantize(_with_finite_pads(source, ranges, Path(folder, "model.tflite")), ranges, parent.name)
        path.write_bytes(packed(unpack(raw, str(path))))
        floats = float_operators(read(path))
        for name in floats:
            ctx.log.warning("%s stays in float: the quantizer has no int8 for it", name)
        scheme = f"s8s8 per-channel, min-max over {self.count(ctx)} samples"
        names = {spec.name: spec.name for spec in (*parent.inputs, *parent.outputs)}
        return Notes(scheme, names, {"float_operators": floats})


def observe(path: Path, feeds: Iterable[Mapping[str, Any]], ctx: Context) -> Ranges:
    """The range of every float tensor that is computed, one sample at a time: memory does not grow with samples.

    What a maximum is padded with does not count. Raises InputError where a value is not finite, for no scale fits it.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph = read(path).subgraphs[0]
    padded = pads_below_all(unpack(path.read_bytes(), str(path)))
    watched = [(t.index, t.name) for t in graph.activations if t.dtype == "float32"]
    with silent(ctx.log):
        # Without a delegate: inside one, tensors are fused away and hold no values.
        interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    low, high = np.full(len(watched), np.inf, np.float32), np.full(len(watched), -np.inf, np.float32)
    for feed in feeds:
        for tensor in graph.inputs:
            interpreter.set_tensor(tensor.index, feed[tensor.name])
        interpreter.invoke()
        values = [interpreter.get_tensor(index) for index, _ in watched]
        if padded:
            values = [value[value != -np.inf] for value in values]
        low = np.minimum(low, [value.min(initial=np.inf) for value in values])
        high = np.maximum(high, [value.max(initial=-np.inf) for value in values])
    ranges = {name: (float(a), float(b)) for (_, name), a, b in zip(watched, low, high, strict=True)}
    broken = next((name for name, ends in ranges.items() if not np.isfinite(ends).all()), None)
    if broken:
        what = f"tensor {broken!r} holds NaN or infinity on a calibration sample"
        raise InputError("this model cannot be calibrated", what, "look at the samples, then at the model")
    return ranges


def pads_below_all(model: Any) -> list[tuple[Any, str, str]]:
    """The PADV2 operators of a ModelT that pad with minus infinity, as before a maximum: each with its input's and its
    output's name."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == BuiltinOperator.PADV2:
            constant = model.buffers[graph.tensors[operator.inputs[2]].buffer].data
            if constant is not None and np.isneginf(np.frombuffer(bytes(constant), np.float32)).all():
                ends = operator.inputs[0], operator.outputs[0]
                found.append((operator, *(graph.tensors[index].name.decode() for index in ends)))
    return found


def _with_finite_pads(path: Path, ranges: Ranges, place: Path) -> Path:
    """The model, written anew where it pads with minus infinity: the lowest value seen there does the same in int8."""
    model = unpack(path.read_bytes(), str(path))
    pads = pads_below_all(model)
    if not pads:
        return path
    graph = model.subgraphs[0]
    for operator, before, after in pads:
        tensor = copy.copy(graph.tensors[operator.inputs[2]])
        buffer = copy.copy(model.buffers[tensor.buffer])
        buffer.data = np.frombuffer(np.float32(ranges[before][0]).tobytes(), np.uint8)
        tensor.buffer, tensor.name = len(model.buffers), f"{after}/lowest".encode()
        operator.inputs = np.array([*operator.inputs[:2], len(graph.tensors)], np.int32)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    place.write_bytes(packed(model))
    return place


def quantize(path: Path, ranges: Ranges, name: str) -> bytes:
    """The int8 model. Raises InputError where the quantizer refuses."""
    from ai_edge_quantizer import quantizer, recipe

    # The quantizer takes ranges of any rank that broadcasts; its own calibration gives four axes. Nothing but zeros was
    # seen where a range is empty: any scale holds those, but one of zero would make the next bias overflow.
    found = {
        tensor: {
            "min": np.full((1, 1, 1, 1), low, np.float32),
            "max": np.full((1, 1, 1, 1), 1.0 if low == high == 0 else high, np.float32),
        }
        for tensor, (low, high) in ranges.items()
    }
    try:
        result = quantizer.Quantizer(str(path), recipe.static_wi8_ai8()).quantize(found, enable_progress_report=False)
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:  # it has many kinds, plain KeyErrors and AssertionErrors among them
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"ai-edge-quantizer cannot quantize {name}", why, "try tflite_fp16") from error
    return bytes(result.quantized_model)


def float_operators(model: Model) -> list[str]:
    """Operators that still compute in float, as "TYPE name"; none in a model that is int8 throughout."""
    return [
        f"{node.type} {node.name}"
        for graph in model.subgraphs
        for node in graph.nodes
        if node.type not in ("QUANTIZE", "DEQUANTIZE") and any(t.dtype == "float32" for t in node.outputs)
    ]
