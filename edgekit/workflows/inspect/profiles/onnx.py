"""ONNX Runtime's profile of each node, and the model as it has optimized it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.workflows.inspect.profiles import Kernel, few, in_float

#: why there may be no times: its runtime always tells them
NO_TIMES = ""
HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "Attention")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
LAYOUTS = ("Transpose", "ReorderInput", "ReorderOutput")


def kernels(rows: Sequence[Sequence[Any]]) -> Iterator[Kernel]:
    for name, op, types, us in rows:
        yield Kernel(name, plain(op), precision(op, types), us)


def plain(op: str) -> str:
    """The model's name for a fused or integer operator: QLinearConv and FusedConv are Conv."""
    op = op.rpartition(":")[2]
    if op in CONVERSIONS:
        return op
    for integer in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"):
        op = op.replace(integer, "MatMul")
    return re.sub(r"^(QLinear|Q(?=Gemm|Attention)|Fused|DynamicQuantize(?=LSTM))|(?<=Conv|tMul)Integer$", "", op)


def precision(op: str, types: Sequence[str]) -> str:
    """The precision, from the types of the inputs."""
    if op in CONVERSIONS:
        return "conversion"
    if {"int8", "uint8"} & set(types):
        return "int8"
    words = {"float": "float32", "double": "float64"}
    first = next((name for name in types if name.startswith(("float", "double"))), next(iter(types), ""))
    return words.get(first, first)


def reasons(path: Path, kernels: Sequence[Kernel], result: Mapping[str, Any]) -> Iterator[str]:
    import onnx

    graph = onnx.load(str(result["folder"] / "optimized.onnx"), load_external_data=False).graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    left = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    inside = [node for node in left if not ends & {node.input[0], *node.output}]
    if inside:
        many = ", ".join(f"{count} {name}" for name, count in Counter(node.op_type for node in inside).items())
        named = few([node.name or node.output[0] for node in inside])
        yield f"{many} remain after ONNX Runtime's optimizations, each a pass over its tensor: {named}"
    moving = Counter(node.op_type for node in graph.node if node.op_type in LAYOUTS)
    if moving:
        yield f"{', '.join(f'{count} {name}' for name, count in moving.items())}: each copies its tensor"
    yield from in_float(kernels, HEAVY)
