"""Which rows no other one beats: on metric against one cost for a picture, on everything for what to ship."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.rows import memory

Cost = Callable[[Measurement], float]


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


#: what an artifact costs on a device → how much; infinite where it was not measured
COSTS: Mapping[str, Cost] = {
    "p50": lambda m: _or_infinity(m.latency_ms.p50 if m.latency_ms else None),
    "size": lambda m: float(m.size_bytes),
    "memory": lambda m: _or_infinity(memory(m)),
}


def goodness(m: Measurement) -> float:
    """The metric, turned so that more is better."""
    if m.metric is None or math.isnan(m.metric.value):
        return -math.inf
    return m.metric.value if m.metric.higher_is_better else -m.metric.value


def fronts(scoped: Sequence[Measurement], cost: str = "p50") -> dict[str, list[Measurement]]:
    """Provenance → its Pareto front, cheapest first: valid rows no other one beats in metric and `cost` at once.

    `scoped` is one value of `scopes`. Provenances are never ranked together; invalid rows are never ranked.
    """
    of = COSTS[cost]
    found: dict[str, list[Measurement]] = {}
    for provenance, rivals in _ranked(scoped).items():
        best = -math.inf
        front: list[Measurement] = []
        for m in sorted(rivals, key=lambda m: (of(m), -goodness(m))):
            same = bool(front) and (of(m), goodness(m)) == (of(front[-1]), goodness(front[-1]))
            if goodness(m) > best or same:
                front.append(m)
                best = goodness(m)
        found[provenance] = front
    return found


def unbeaten(scoped: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """The same over metric, p50, file and memory together: no other is as good in all of them and better in one."""
    found = {}
    for provenance, rivals in _ranked(scoped).items():
        costs = [(-goodness(m), *(cost(m) for cost in COSTS.values())) for m in rivals]
        beaten = [
            any(other != own and all(o <= c for o, c in zip(other, own, strict=True)) for other in costs)
            for own in costs
        ]
        front = [m for m, lost in zip(rivals, beaten, strict=True) if not lost]
        found[provenance] = sorted(front, key=lambda m: (COSTS["p50"](m), -goodness(m)))
    return found


def _ranked(scoped: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """What may be ranked together: the valid ones of each provenance."""
    found: dict[str, list[Measurement]] = {}
    for m in scoped:
        if not m.invalid:
            found.setdefault(m.provenance, []).append(m)
    return found
