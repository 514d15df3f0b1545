"""What LiteRT executes: its Python interpreter gives no times, so only what the file and the delegate say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekit.formats.tflite import read
from edgekit.quantization.pairs import Feed
from edgekit.quantization.profiles import Profile, few
from edgekit.runtimes.litert import Litert

HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL", "CONV_3D")
NO_TIMES = "LiteRT's Python interpreter gives no times per operator (its benchmark_model does: --enable_op_profiling)"


def profile(path: Path, feeds: Sequence[Feed]) -> Profile:
    facts = Litert(str(path), 1, "fp32", {}).facts()  # type: ignore[no-untyped-call]
    runtime = f"litert {facts['runtime_version']}"
    return Profile(runtime, (), 0, tuple(_reasons(path, facts["delegate_partitions"])), NO_TIMES)


def _reasons(path: Path, partitions: int | None) -> Iterator[str]:
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
        yield f"{many} inside, each a pass over its tensor: {few([node.name for node in inside])}"
    if transposes := [node.name for node in graph.nodes if node.type == "TRANSPOSE"]:
        yield f"{len(transposes)} TRANSPOSE, each copies its tensor: {few(transposes)}"
    floats = [
        f"{node.type} {node.name}"
        for node in graph.nodes
        if node.type in HEAVY and node.outputs[0].dtype == "float32" and node.inputs[0] and not node.inputs[0].scales
    ]
    if floats:
        yield f"{len(floats)} of the operators with most work compute in float32: {few(floats)}"
    if partitions == 0:
        yield "XNNPACK takes none of it: every operator runs on slower kernels"
    elif partitions and partitions > 1:
        yield f"XNNPACK takes it in {partitions} parts: what lies between them runs on slower kernels"
