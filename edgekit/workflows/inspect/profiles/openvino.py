"""The CPU plugin's counters of each node of the graph that OpenVINO has compiled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.workflows.inspect.profiles import Kernel, few, in_float

#: why there may be no times: its runtime always tells them
NO_TIMES = ""
HEAVY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNSeq", "RNNCell", "LSTMSequence", "GRUSequence")
#: nodes that only change a tensor's type or its layout in memory
CONVERSIONS = ("Reorder", "Convert", "FakeQuantize")
_ENDS = ("Input", "Parameter", "Output", "Result", "Constant", "Const")
_PRECISIONS = {"I8": "int8", "U8": "int8", "FP32": "float32", "F32": "float32", "FP16": "float16", "BF16": "bfloat16"}


def kernels(rows: Sequence[Sequence[Any]]) -> Iterator[Kernel]:
    for name, kind, kernel, us in rows:
        if kind not in _ENDS:
            yield Kernel(name, kind, precision(kind, kernel), us)


def precision(node_type: str, exec_type: str) -> str:
    """The precision, from a kernel's name, which ends with it: brgconv_avx512_I8."""
    if node_type in CONVERSIONS:
        return "conversion"
    suffix = re.search(r"_([A-Z]+\d+)$", exec_type.upper())
    return _PRECISIONS.get(suffix[1], suffix[1].lower()) if suffix else ""


def reasons(path: Path, kernels: Sequence[Kernel], result: Mapping[str, Any]) -> Iterator[str]:
    moving = [kernel for kernel in kernels if kernel.precision == "conversion" and kernel.us > 0]
    if moving:
        many = ", ".join(f"{count} {name}" for name, count in Counter(kernel.type for kernel in moving).items())
        yield f"{many} are left in the compiled graph, each a pass over its tensor: {few([k.name for k in moving])}"
    yield from in_float(kernels, HEAVY)
