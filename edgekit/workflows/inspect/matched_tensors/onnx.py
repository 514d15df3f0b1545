"""The tensors of two ONNX models in ONNX Runtime, as additional outputs of their graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.formats.shared.onnx_wire import parse
from edgekit.workflows.inspect.matched_tensors import Feed, MatchedTensors, Node, grouped

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

#: operators that ONNX Runtime's quantizer, or its optimizer before that, fuses into the operator before
_FOLLOWERS = ("Relu", "Clip", "BatchNormalization")


def match(path: Path, other: Path) -> MatchedTensors:
    """Open both. A tensor that the other model quantizes is read after its DequantizeLinear.

    No tensor between an integer kernel's DequantizeLinear and QuantizeLinear becomes an output, so ONNX Runtime fuses
    them as in normal inference.
    """
    first, second = _loaded(path), _loaded(other)
    graph = _grouped(first)
    matches = _matches(second)
    names = {name: matches[name] for node in graph for name in node.writes if name in matches}
    ours, theirs = _session(first, list(names)), _session(second, list(dict.fromkeys(names.values())))
    fetched = list(dict.fromkeys(names.values()))
    inputs = {a.name: b for a, b in zip(ours.get_inputs(), theirs.get_inputs(), strict=True)}

    def run(feed: Feed) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
        values = dict(zip(fetched, theirs.run(fetched, {inputs[n].name: v for n, v in feed.items()}), strict=True))
        for name, value in zip(names, ours.run(list(names), feed), strict=True):
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                yield name, value, values[names[name]]

    return MatchedTensors(graph, run)


def nodes(path: Path) -> tuple[Node, ...]:
    """See `matched_tensors.nodes`. The weights are not read."""
    return _grouped(_inlined(parse(path)))


def _grouped(model: ModelProto) -> tuple[Node, ...]:
    return grouped(_nodes(model), lambda _, node: node.type in _FOLLOWERS, [o.name for o in model.graph.output])


def _loaded(path: Path) -> ModelProto:
    import onnx

    return _inlined(onnx.load(str(path)))


def _inlined(model: ModelProto) -> ModelProto:
    from onnx import inliner

    return inliner.inline_local_functions(model) if model.functions else model


def _nodes(model: ModelProto) -> Iterator[Node]:
    """The nodes of the main graph that depend on its inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    live = {value.name for value in model.graph.input} - weights
    for node in model.graph.node:
        reads = tuple(dict.fromkeys(name for name in node.input if name in live))
        inner = node.op_type in ("If", "Loop", "Scan")  # tensors that a branch reads are not among a node's inputs
        if reads or inner:
            writes = tuple(name for name in node.output if name)
            live |= set(writes)
            yield Node(node.name, node.op_type, reads, writes)


def _matches(model: ModelProto) -> dict[str, str]:
    """Tensor of the float model → the tensor of this model that holds its values as their readers see them."""
    written = {name: name for node in model.graph.node for name in node.output if name}
    stored = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    read = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return written | {name: read[code] for name, code in stored.items() if code in read}


def _session(model: ModelProto, names: Sequence[str]) -> InferenceSession:
    """A session with the fusions of integer kernels; without the arena, so that memory does not grow."""
    import onnx
    import onnxruntime

    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
