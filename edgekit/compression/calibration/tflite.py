"""Activations of a TFLite model in LiteRT's interpreter, with `experimental_preserve_all_tensors`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.compression.calibration import Feed, gather
from edgekit.compression.calibration.infinities import INFINITE, LARGE, finite
from edgekit.compression.calibration.tflite_masks import masks
from edgekit.core.mute import muted
from edgekit.core.step import Context
from edgekit.formats.ranges import Statistics
from edgekit.formats.tflite import read, unpack


def observe(
    path: Path,
    feeds: Iterable[Feed],
    ctx: Context,
    *,
    batch: int = 1,
    origin: str = "",
    partial: Path | None = None,
) -> Statistics:
    """Statistics of every computed float tensor, excluding infinities from padding and masks.

    Raises InputError: see `gather`.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph = read(path).subgraphs[0]
    model = unpack(path.read_bytes(), str(path))
    found = masks(model)
    infinite = bool(pads_below_all(model) or found)
    large = {name for mask in found if mask.limit == LARGE for name in mask.carriers}
    del model
    observed = [(t.index, t.name) for t in graph.activations if t.dtype == "float32"]
    with muted(ctx.log, native=True):
        # without a delegate: tensors that a delegate fuses have no values
        interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()

    def run(feed: Feed) -> Mapping[str, Any]:
        for tensor in graph.inputs:
            interpreter.set_tensor(tensor.index, feed[tensor.name])
        interpreter.invoke()
        values = {name: interpreter.get_tensor(index) for index, name in observed}
        if not infinite:
            return values
        # a mask and the score that it is added to make a little less than the mask
        return {name: finite(value, LARGE / 2 if name in large else INFINITE) for name, value in values.items()}

    return gather(run, feeds, batch=batch, origin=origin, partial=partial)


def pads_below_all(model: Any) -> list[tuple[Any, str, str]]:
    """The PADV2 operators of a ModelT that pad with minus infinity, for example before a maximum.

    Each is returned with its input's and its output's name.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    graph = model.subgraphs[0]
    operators = []
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == BuiltinOperator.PADV2:
            constant = model.buffers[graph.tensors[operator.inputs[2]].buffer].data
            if constant is not None and np.isneginf(np.frombuffer(bytes(constant), np.float32)).all():
                ends = operator.inputs[0], operator.outputs[0]
                operators.append((operator, *(graph.tensors[index].name.decode() for index in ends)))
    return operators
