"""What an experiment tracker is given of each measurement: a name, attributes and figures."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.core.printable import printable
from edgekit.report.rows import memory

FIELDS = ("artifact", "target", "runtime", "format", "precision", "scheme", "provenance")
PLAN = ("threads", "batch", "prompt", "new_tokens")
ATTRIBUTES = (*FIELDS, *PLAN, "valid")


def names(measurements: Sequence[Measurement]) -> Iterator[str]:
    """A unique name for each row, from its attributes, with portable characters only."""
    counts: Counter[str] = Counter()
    for m in measurements:
        plan = "x".join(map(str, filter(None, m.latency_ms.plan))) if m.latency_ms else ""
        words = [m.artifact, m.target, m.runtime, plan]
        name = "--".join(filter(None, (re.sub(r"[^\w.@~+-]", "_", word).strip(".")[:60] for word in words))) or "row"
        counts[name] += 1
        yield f"{name}--{counts[name]}" if counts[name] > 1 else name


def attributes(m: Measurement) -> Mapping[str, Any]:
    """What a row is, by the names in ATTRIBUTES."""
    numbers = m.latency_ms.plan if m.latency_ms else ()
    plan = {name: number for name, number in zip(PLAN, numbers, strict=False) if number}
    return {**{name: printable(getattr(m, name)) for name in FIELDS}, **plan, "valid": not m.invalid}


def figures(m: Measurement) -> dict[str, float]:
    """Tag → value of what was measured."""
    metric, latency = m.metric, m.latency_ms
    values: dict[str, float | None] = {
        printable(metric.name or "metric") if metric else "metric": metric.value if metric else None,
        "drop_pp": metric.drop_pp if metric else None,
        "p50_ms": latency.p50 if latency else None,
        "p90_ms": latency.p90 if latency else None,
        "p99_ms": latency.p99 if latency else None,
        "load_ms": m.load_ms,
        "size_bytes": m.size_bytes,
        "weight_bytes": m.weight_bytes,
        "memory_bytes": memory(m),
    }
    return {tag: float(value) for tag, value in values.items() if value is not None and math.isfinite(value)}


def without_password(text: str) -> str:
    """What a tracker's client says, without the user and password of an address in it."""
    return re.sub(r"(?<=//)[^/@\s]+@", "***@", text)
