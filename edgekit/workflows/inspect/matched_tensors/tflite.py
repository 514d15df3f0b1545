"""The tensors of two TFLite models in LiteRT's interpreter, which can keep all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.mute import muted
from edgekit.formats.tflite import Subgraph, Tensor, read
from edgekit.ondevice.runner import as_input
from edgekit.workflows.inspect.matched_tensors import Feed, MatchedTensors, Node


def match(path: Path, other: Path) -> MatchedTensors:
    """Open both. Tensors match by name, which the quantizer keeps; an operator includes its activation in this format.

    They are computed without XNNPACK, which fuses tensors away: its integer kernels may differ by one step.
    """
    first, second = read(path).subgraphs[0], read(other).subgraphs[0]
    graph = tuple(_nodes(first))
    floats = {t.name: t for node in first.nodes for t in node.outputs if t.dtype == "float32"}
    theirs = {t.name: t for node in second.nodes for t in node.outputs}
    common = [name for node in graph for name in node.writes if name in floats and name in theirs]
    interpreters = _interpreter(path), _interpreter(other)

    def run(feed: Feed) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
        for interpreter, model in zip(interpreters, (first, second), strict=True):
            for source, tensor in zip(first.inputs, model.inputs, strict=True):
                interpreter.set_tensor(tensor.index, _as_input(feed[source.name], tensor))
            interpreter.invoke()
        for name in common:
            value = interpreters[1].get_tensor(theirs[name].index)
            yield name, interpreters[0].get_tensor(floats[name].index), _dequantized(value, theirs[name])

    return MatchedTensors(graph, run)


def nodes(path: Path) -> tuple[Node, ...]:
    """See `matched_tensors.nodes`."""
    return tuple(_nodes(read(path).subgraphs[0]))


def _nodes(graph: Subgraph) -> Iterator[Node]:
    live = {tensor.index for tensor in graph.inputs}
    for node in graph.nodes:
        reads = tuple(dict.fromkeys(t.name for t in node.inputs if t and t.index in live))
        if reads:
            live |= {t.index for t in node.outputs}
            yield Node(node.name, node.type, reads, tuple(t.name for t in node.outputs))


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with muted(logging.getLogger("edgekit"), native=True):
        interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    return interpreter


def _as_input(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    public = tensor.public
    spec = {"name": public.name, "dtype": public.dtype, "quantization": public.quantization}
    converted: NDArray[Any] = as_input(array, spec)
    return converted


def _dequantized(value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """scale * (stored - zero point); an activation has one scale."""
    if value.dtype.kind == "f" or not tensor.scales:
        return value
    zero_point = tensor.zero_points[0] if tensor.zero_points else 0
    real: NDArray[Any] = (value.astype(np.float32) - zero_point) * np.float32(tensor.scales[0])
    return real
