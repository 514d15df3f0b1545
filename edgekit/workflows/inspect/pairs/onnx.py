"""Tensors of two ONNX models in ONNX Runtime: as further outputs of their graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.workflows.inspect.pairs import Feed, Node, Pair, grouped

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

#: what ONNX Runtime's quantizer, or its optimizer before that, makes a part of the operator before
_FOLLOWERS = ("Relu", "Clip", "BatchNormalization")


def pair(path: Path, other: Path) -> Pair:
    """Where the other model has a tensor quantized, it is looked at behind its DequantizeLinear.

    Nothing between an integer kernel's DequantizeLinear and QuantizeLinear is an output, so ONNX Runtime fuses them
    as it does when the model is used.
    """
    first, second = _loaded(path), _loaded(other)
    nodes = grouped(_nodes(first), lambda _, node: node.type in _FOLLOWERS, [o.name for o in first.graph.output])
    twins = _twins(second)
    names = {name: twins[name] for node in nodes for name in node.writes if name in twins}
    ours, theirs = _session(first, list(names)), _session(second, list(dict.fromkeys(names.values())))
    asked = list(dict.fromkeys(names.values()))
    given = {a.name: b for a, b in zip(ours.get_inputs(), theirs.get_inputs(), strict=True)}

    def run(feed: Feed) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
        values = dict(zip(asked, theirs.run(asked, {given[n].name: v for n, v in feed.items()}), strict=True))
        for name, value in zip(names, ours.run(list(names), feed), strict=True):
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                yield name, value, values[names[name]]

    return Pair(nodes, run)


def _loaded(path: Path) -> ModelProto:
    import onnx
    from onnx import inliner

    model = onnx.load(str(path))
    return inliner.inline_local_functions(model) if model.functions else model


def _nodes(model: ModelProto) -> Iterator[Node]:
    """Those of the main graph that work on what comes in."""
    weights = {tensor.name for tensor in model.graph.initializer}
    live = {value.name for value in model.graph.input} - weights
    for node in model.graph.node:
        reads = tuple(dict.fromkeys(name for name in node.input if name in live))
        inner = node.op_type in ("If", "Loop", "Scan")  # what a branch reads is not among a node's inputs
        if reads or inner:
            writes = tuple(name for name in node.output if name)
            live |= set(writes)
            yield Node(node.name, node.op_type, reads, writes)


def _twins(model: ModelProto) -> dict[str, str]:
    """Tensor of the float model → the one of this model that holds its values as those who read them see them."""
    written = {name: name for node in model.graph.node for name in node.output if name}
    stored = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    read = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return written | {name: read[code] for name, code in stored.items() if code in read}


def _session(model: ModelProto, names: Sequence[str]) -> InferenceSession:
    """With the fusions of integer kernels, and without the arena, so that memory stays flat."""
    import onnx
    import onnxruntime

    given = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
