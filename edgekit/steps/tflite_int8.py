"""tflite → tflite[int8]: weights per channel, activations, inputs and outputs in int8, calibrated on training data."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.compression.calibration import tflite_masks
from edgekit.compression.calibration.ranges import Ranges, ranges
from edgekit.compression.calibration.tflite import pads_below_all
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.mute import muted
from edgekit.core.step import Context, StepResult
from edgekit.core.temporary import temporary_folder
from edgekit.formats.ranges import Histogram
from edgekit.formats.tflite import Model, packed, read, unpack
from edgekit.steps.shared import tflite_embeddings
from edgekit.steps.shared.calibrated import FEW_CLASSES, StaticInt8Step
from edgekit.steps.shared.coarse_constants import is_coarse
from edgekit.steps.shared.tflite_rules import Graph
from edgekit.steps.shared.tflite_slim import slim
from edgekit.steps.shared.tflite_types import EdgeType, set_types


@dataclass(frozen=True)
class TfliteInt8(StaticInt8Step):
    """ai-edge-quantizer, with ranges from edgekit's calibration.

    Its own calibration is a moving average, whose ranges are narrower than the true ones and lose accuracy.
    `calibration`: a SET; "" takes `samples` samples of the task's training split, and `method` chooses ranges from
    them; or `ranges` names an artifact of the calibrate step. `keep_float`: operators, by name, that stay in float.
    `fold_padding`: no padded tensors before depthwise convolutions, for microcontrollers (see `tflite_slim`).
    `input_type`, `output_type`: uint8 and int8 have their scale in the file; with float32 the model quantizes itself.
    """

    accepts: ClassVar = kinds("tflite")
    produces: ClassVar[Kind] = Kind("tflite", frozenset({"int8"}))
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("ai-edge-quantizer", "ai-edge-litert")

    fold_padding: bool = False
    input_type: EdgeType = "int8"
    output_type: EdgeType = "int8"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError if the samples do not fit, or the quantizer fails on the model."""
        parent = inputs["parent"]
        source, path = parent.path / "model.tflite", out / "model.tflite"
        kept = self.kept((node.name for node in read(source).subgraphs[0].nodes), parent)
        kept = (*kept, *(name for name in _unfit(read(source), self.output_type) if name not in kept))
        statistics = self.statistics(inputs, ctx)
        tensor_ranges = ranges(statistics, self.method)
        kept = (*kept, *(name for name in _coarse(source, tensor_ranges) if name not in kept))
        with muted(ctx.log, native=True), temporary_folder() as folder:
            found = tflite_masks.masks(unpack(source.read_bytes(), str(source)))
            tensor_ranges = tflite_masks.widened(tensor_ranges, found, statistics)
            finite = _with_finite_constants(source, statistics, folder / "model.tflite")
            raw = quantize(finite, tensor_ranges, parent.name, kept, frozenset(self.weights_only) - {*self.keep_float})
        model = unpack(raw, str(path))
        slim(model, fold_padding=self.fold_padding)
        set_types(model, self.input_type, self.output_type)
        path.write_bytes(packed(model))
        floats = float_operators(read(path))
        unforeseen = [name for name in floats if name.partition(" ")[2] not in kept]
        for name in (name for name in unforeseen if not name.startswith("EMBEDDING_LOOKUP ")):  # its table is int8
            ctx.log.warning("%s stays in float: the quantizer has no int8 for it", name)
        scheme = f"s8s8 per-channel, {self.described(statistics)}"
        return StepResult(scheme, parent.identity_map(), {"float_operators": floats})


def _unfit(model: Model, output_type: EdgeType) -> Iterator[str]:
    """Operators that int8 does not fit: divisions, which LiteRT's kernel refuses where a divisor is rounded to 0, and
    the probabilities of many classes, most of which are below the step of 1/256 that a SOFTMAX has, unless the outputs
    are to be integers."""
    graph = model.subgraphs[0]
    ends = {tensor.index for tensor in graph.outputs}
    for node in graph.nodes:
        classes = node.outputs[0].shape[-1] if node.outputs and node.outputs[0].shape else 0
        many = node.type == "SOFTMAX" and (classes or 0) > FEW_CLASSES and output_type != "uint8"
        if node.type == "DIV" or (many and node.outputs[0].index in ends):
            yield node.name


def _coarse(path: Path, tensor_ranges: Ranges) -> Iterator[str]:
    """Sums, differences and products with a constant that int8 would round too coarsely for their output."""
    model = unpack(path.read_bytes(), str(path))
    graph = Graph(model, model.subgraphs[0])
    for operator in graph.operators:
        if (kind := graph.type(operator)) not in ("ADD", "SUB", "MUL"):
            continue
        first, second = map(int, operator.inputs)
        output = tensor_ranges.get(graph.name(int(operator.outputs[0])))
        for index, other in ((first, second), (second, first)):
            values, factor = graph.constant(index), tensor_ranges.get(graph.name(other))
            if output is None or factor is None or values is None or values.dtype != np.float32 or not values.size:
                continue
            if is_coarse(values, output, factor if kind == "MUL" else None):
                yield graph.name(int(operator.outputs[0]))


def _with_finite_constants(path: Path, statistics: Mapping[str, Histogram], place: Path) -> Path:
    """The model, rewritten if it holds infinities: masks, and padding of a maximum, where the lowest calibrated value
    has the same effect in int8."""
    model = unpack(path.read_bytes(), str(path))
    pads, found = pads_below_all(model), tflite_masks.masks(model)
    if not pads and not found:
        return path
    tflite_masks.replace(model, found, statistics)
    graph = model.subgraphs[0]
    for operator, before, after in pads:
        tensor = copy.copy(graph.tensors[operator.inputs[2]])
        buffer = copy.copy(model.buffers[tensor.buffer])
        buffer.data = np.frombuffer(np.float32(statistics[before].minimum).tobytes(), np.uint8)
        tensor.buffer, tensor.name = len(model.buffers), f"{after}/lowest".encode()
        operator.inputs = np.array([*operator.inputs[:2], len(graph.tensors)], np.int32)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    place.write_bytes(packed(model))
    return place


def quantize(
    path: Path, tensor_ranges: Ranges, name: str, kept: Iterable[str] = (), weights_only: Collection[str] = ()
) -> bytes:
    """The int8 model; the operators `kept` compute in float, the `weights_only` of them from int8 weights.

    Raises InputError if the quantizer fails.
    """
    from ai_edge_quantizer import quantizer, recipe

    # The quantizer computes the scale of a constant from a range and the constant: they must have as many axes. Only
    # zeros were seen where a range is empty: any scale holds those, but one of zero would make the next bias overflow.
    axes = {tensor.name: max(len(tensor.shape), 1) for graph in read(path).subgraphs for tensor in graph.tensors}
    calibration = {
        tensor: {
            "min": np.full((1,) * axes.get(tensor, 4), low, np.float32),
            "max": np.full((1,) * axes.get(tensor, 4), 1.0 if low == high == 0 else high, np.float32),
        }
        for tensor, (low, high) in tensor_ranges.items()
    }
    # It matches the names of an operator's outputs, each followed by a semicolon.
    floats = [_entry(name, "*", "no_quantize", {}) for name in kept]
    floats += [
        _entry(node.name, node.type, "min_max_uniform_quantize", _WEIGHTS_ONLY)
        for node in read(path).subgraphs[0].nodes
        if node.name in weights_only and node.type in _WEIGHTED and node.parameters >= SMALL
    ]
    try:
        static = quantizer.Quantizer(str(path), [*recipe.static_wi8_ai8(), tflite_embeddings.in_int8(), *floats])
        result = static.quantize(calibration, enable_progress_report=False)
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:  # it has many kinds, plain KeyErrors and AssertionErrors among them
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"ai-edge-quantizer cannot quantize {name}", why, "try tflite_fp16") from error
    return bytes(result.quantized_model)


#: smaller weights stay float: storing them saves nothing, and some are tables (a detector's bins 0 to 15), which
#: rounding would change by several per cent
SMALL = 1024
#: operators whose weights can be stored only, and how: XNNPACK makes floats of them when it loads the model
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_WEIGHTS_ONLY: Mapping[str, Any] = {
    "weight_tensor_config": {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"},
    "compute_precision": "FLOAT",
    "explicit_dequantize": True,
    "skip_checks": False,
    "min_weight_elements": 0,
}


def _entry(name: str, operation: str, algorithm: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ai-edge-quantizer's recipe for the operator of that name."""
    return {
        "regex": f"^{re.escape(name)};",
        "operation": operation,
        "algorithm_key": algorithm,
        "op_config": {**config},
    }


def float_operators(model: Model) -> list[str]:
    """Operators with float outputs, as "TYPE name"; none in a model that is int8 throughout."""
    return [
        f"{node.type} {node.name}"
        for graph in model.subgraphs
        for node in graph.nodes
        if node.type not in ("QUANTIZE", "DEQUANTIZE") and any(t.dtype == "float32" for t in node.outputs)
    ]
