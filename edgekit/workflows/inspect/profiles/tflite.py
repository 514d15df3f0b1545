"""What the file and the delegate say of a TFLite model: LiteRT's Python interpreter reports no times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.formats.tflite import read
from edgekit.workflows.inspect.profiles import Kernel, few

HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL", "CONV_3D")
NO_TIMES = "LiteRT's Python interpreter reports no times per operator (its benchmark_model does: --enable_op_profiling)"


def kernels(rows: Sequence[Sequence[Any]]) -> Iterator[Kernel]:
    yield from ()


def reasons(path: Path, kernels: Sequence[Kernel], result: Mapping[str, Any]) -> Iterator[str]:
    partitions = result["facts"].get("delegate_partitions")
    graph = read(path).subgraphs[0]
    ends = {tensor.index for tensor in (*graph.inputs, *graph.outputs)}
    inside = [
        node
        for node in graph.nodes
        if node.type in ("QUANTIZE", "DEQUANTIZE")
        and not ends & {tensor.index for tensor in (*node.inputs, *node.outputs) if tensor}
    ]
    if inside:
        many = ", ".join(f"{count} {name}" for name, count in Counter(node.type for node in inside).items())
        yield f"{many} inside the graph, each a pass over its tensor: {few([node.name for node in inside])}"
    if transposes := [node.name for node in graph.nodes if node.type == "TRANSPOSE"]:
        yield f"{len(transposes)} TRANSPOSE, each copies its tensor: {few(transposes)}"
    floats = [
        f"{node.type} {node.name}"
        for node in graph.nodes
        if node.type in HEAVY and node.outputs[0].dtype == "float32" and node.inputs[0] and not node.inputs[0].scales
    ]
    if floats:
        yield f"{len(floats)} of the heavy operators compute in float32: {few(floats)}"
    if partitions == 0:
        yield "XNNPACK takes no operator: all run on slower kernels"
    elif partitions and partitions > 1:
        yield f"XNNPACK takes the graph in {partitions} partitions: operators between them run on slower kernels"
