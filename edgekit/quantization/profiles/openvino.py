"""What OpenVINO's CPU plugin executes: its own counters of each node of the graph it has compiled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgekit.quantization.pairs import Feed
from edgekit.quantization.profiles import WARM_UPS, Kernel, Profile, few, in_float, repeat
from edgekit.runtimes.openvino import asks_for_dynamic, no_telemetry

HEAVY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNSeq", "RNNCell", "LSTMSequence", "GRUSequence")
#: nodes that only change a tensor's type or its layout in memory
CONVERSIONS = ("Reorder", "Convert", "FakeQuantize")
_ENDS = ("Input", "Parameter", "Output", "Result", "Constant", "Const")
_PRECISIONS = {"I8": "int8", "U8": "int8", "FP32": "float32", "F32": "float32", "FP16": "float16", "BF16": "bfloat16"}


def profile(path: Path, feeds: Sequence[Feed]) -> Profile:
    """The counters are means over all inferences so far; what the warm-ups took is taken out again."""
    no_telemetry()
    import openvino

    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    options |= {"INFERENCE_PRECISION_HINT": "f32", "CACHE_DIR": "", "PERF_COUNT": True}
    if not asks_for_dynamic(path):  # type: ignore[no-untyped-call]
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    compiled = openvino.Core().compile_model(path, "CPU", options)
    names = [min(port.get_names(), default=port.node.get_friendly_name()) for port in compiled.inputs]
    request = compiled.create_infer_request()

    def run(feed: Feed) -> None:
        request.infer([feed[name] for name in names], share_inputs=True)

    for index in range(WARM_UPS):
        run(feeds[index % len(feeds)])
    before = _counters(request)
    runs = repeat(run, feeds)
    kernels = tuple(_kernels(before, _counters(request), runs))
    version = openvino.get_version().split("-")[0]
    return Profile(f"openvino {version}", kernels, runs, tuple(_reasons(kernels)))


def _counters(request: Any) -> dict[str, Any]:
    """Node → its counters, where it was executed at all."""
    found = request.get_profiling_info()
    return {info.node_name: info for info in found if info.status.name == "EXECUTED"}


def _kernels(before: dict[str, Any], after: dict[str, Any], runs: int) -> Iterator[Kernel]:
    for name, info in after.items():
        if info.node_type in _ENDS:
            continue
        mean, early = (c.real_time.total_seconds() * 1e6 if c else 0.0 for c in (info, before.get(name)))
        us = (mean * (WARM_UPS + runs) - early * WARM_UPS) / runs
        yield Kernel(name, info.node_type, precision(info.node_type, info.exec_type), max(0.0, us))


def precision(node_type: str, exec_type: str) -> str:
    """From a kernel's name, which ends with what it computes in: brgconv_avx512_I8."""
    if node_type in CONVERSIONS:
        return "conversion"
    found = re.search(r"_([A-Z]+\d+)$", exec_type.upper())
    return _PRECISIONS.get(found[1], found[1].lower()) if found else ""


def _reasons(kernels: Sequence[Kernel]) -> Iterator[str]:
    moving = [kernel for kernel in kernels if kernel.precision == "conversion" and kernel.us > 0]
    if moving:
        many = ", ".join(f"{count} {name}" for name, count in Counter(kernel.type for kernel in moving).items())
        yield f"{many} are left in the compiled graph, each a pass over its tensor: {few([k.name for k in moving])}"
    yield from in_float(kernels, HEAVY)
