"""What the delegate says of a TFLite model: LiteRT's Python interpreter reports no times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.workflows.inspect.profiles import Kernel

NO_TIMES = "LiteRT's Python interpreter reports no times per operator (its benchmark_model does: --enable_op_profiling)"


def kernels(rows: Sequence[Sequence[Any]]) -> Iterator[Kernel]:
    yield from ()


def reasons(path: Path, kernels: Sequence[Kernel], result: Mapping[str, Any]) -> Iterator[str]:
    partitions = result["facts"].get("delegate_partitions")
    if partitions == 0:
        yield "XNNPACK takes no operator: all run on slower kernels"
    elif partitions and partitions > 1:
        yield f"XNNPACK takes the graph in {partitions} partitions: operators between them run on slower kernels"
