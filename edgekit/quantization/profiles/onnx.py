"""What ONNX Runtime executes: its own profile of each node, and the model as it has optimized it."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.quantization.pairs import Feed
from edgekit.quantization.profiles import WARM_UPS, Kernel, Profile, few, in_float, repeat

HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "Attention")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
LAYOUTS = ("Transpose", "ReorderInput", "ReorderOutput")


def profile(path: Path, feeds: Sequence[Feed]) -> Profile:
    """Times are in whole microseconds, so those of the smallest operators are rough."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for index in range(WARM_UPS):
            session.run(None, feeds[index % len(feeds)])
        runs = repeat(lambda feed: session.run(None, feed), feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
        kernels = tuple(_kernels(events, runs))
        reasons = tuple(_reasons(Path(folder, "optimized.onnx"), kernels))
    return Profile(f"onnxruntime {onnxruntime.__version__}", kernels, runs, reasons)


def _kernels(events: Sequence[Mapping[str, Any]], runs: int) -> Iterator[Kernel]:
    """One per node, those of branches and bodies too; the share of the warm-ups, which came first, is left out."""
    times: dict[tuple[str, str], list[float]] = {}
    what: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"].get("node_index", "")
            times.setdefault(key, []).append(float(event["dur"]))
            what[key] = event["args"]
    for key, found in times.items():
        counted = found[round(len(found) * WARM_UPS / (WARM_UPS + runs)) :]
        yield Kernel(key[0], plain(what[key]["op_name"]), precision(what[key]), sum(counted) / runs)


def plain(op: str) -> str:
    """The model's word for what a fused or integer operator computes: QLinearConv and FusedConv are Conv."""
    op = op.rpartition(":")[2]
    if op in CONVERSIONS:
        return op
    for integer in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"):
        op = op.replace(integer, "MatMul")
    return re.sub(r"^(QLinear|Q(?=Gemm|Attention)|Fused|DynamicQuantize(?=LSTM))|(?<=Conv|tMul)Integer$", "", op)


def precision(args: Mapping[str, Any]) -> str:
    """From the types of what went in: a profile's `input_type_shape` is a list of {type: shape}."""
    if args["op_name"] in CONVERSIONS:
        return "conversion"
    types = [name for entry in args.get("input_type_shape") or () for name in entry]
    if {"int8", "uint8"} & set(types):
        return "int8"
    words = {"float": "float32", "double": "float64"}
    first = next((name for name in types if name.startswith(("float", "double"))), next(iter(types), ""))
    return words.get(first, first)


def _reasons(optimized: Path, kernels: Sequence[Kernel]) -> Iterator[str]:
    import onnx

    graph = onnx.load(str(optimized), load_external_data=False).graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    left = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    inside = [node for node in left if not ends & {node.input[0], *node.output}]
    if inside:
        many = ", ".join(f"{count} {name}" for name, count in Counter(node.op_type for node in inside).items())
        named = few([node.name or node.output[0] for node in inside])
        yield f"{many} are left inside after ONNX Runtime's optimizations, each a pass over its tensor: {named}"
    moving = Counter(node.op_type for node in graph.node if node.op_type in LAYOUTS)
    if moving:
        yield f"{', '.join(f'{count} {name}' for name, count in moving.items())}: each copies its tensor"
    yield from in_float(kernels, HEAVY)
