"""Pareto fronts of measurements: in metric and one cost, or in metric and all costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.rows import memory

Cost = Callable[[Measurement], float]


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


#: cost of an artifact on a device → its value; infinite if not measured
COSTS: Mapping[str, Cost] = {
    "p50": lambda m: _or_infinity(m.latency_ms.p50 if m.latency_ms else None),
    "size": lambda m: float(m.size_bytes),
    "memory": lambda m: _or_infinity(memory(m)),
}


def goodness(m: Measurement) -> float:
    """The metric, with its sign chosen so that higher is better."""
    if m.metric is None or math.isnan(m.metric.value):
        return -math.inf
    return m.metric.value if m.metric.higher_is_better else -m.metric.value


def fronts(scoped: Sequence[Measurement], cost: str = "p50") -> dict[str, list[Measurement]]:
    """Provenance → its Pareto front in metric and `cost`, cheapest first.

    `scoped` is one value of `scopes`. Provenances are ranked separately; invalid rows are not ranked.
    """
    cost_of = COSTS[cost]
    fronts_by_provenance: dict[str, list[Measurement]] = {}
    for provenance, candidates in _ranked(scoped).items():
        best = -math.inf
        front: list[Measurement] = []
        for m in sorted(candidates, key=lambda m: (cost_of(m), -goodness(m))):
            same = bool(front) and (cost_of(m), goodness(m)) == (cost_of(front[-1]), goodness(front[-1]))
            if goodness(m) > best or same:
                front.append(m)
                best = goodness(m)
        fronts_by_provenance[provenance] = front
    return fronts_by_provenance


def unbeaten(scoped: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Provenance → its Pareto front in metric, p50, file and memory, fastest first."""
    fronts_by_provenance = {}
    for provenance, candidates in _ranked(scoped).items():
        costs = [(-goodness(m), *(cost(m) for cost in COSTS.values())) for m in candidates]
        beaten = [
            any(
                other != costs_of_row and all(o <= c for o, c in zip(other, costs_of_row, strict=True))
                for other in costs
            )
            for costs_of_row in costs
        ]
        front = [m for m, is_beaten in zip(candidates, beaten, strict=True) if not is_beaten]
        fronts_by_provenance[provenance] = sorted(front, key=lambda m: (COSTS["p50"](m), -goodness(m)))
    return fronts_by_provenance


def _ranked(scoped: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """The valid measurements by provenance."""
    by_provenance: dict[str, list[Measurement]] = {}
    for m in scoped:
        if not m.invalid:
            by_provenance.setdefault(m.provenance, []).append(m)
    return by_provenance
