"""The best measurements of each device; the fastest includes all without a significant difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Measurement
from edgekit.core.statistics import latency_ratio
from edgekit.report.pareto import goodness
from edgekit.report.rows import scopes

FASTEST, MOST_ACCURATE = "★", "◆"


@dataclass(frozen=True)
class Best:
    """Positions in the list: the fastest and all without a significant difference from it; the highest metric."""

    fastest: frozenset[int]
    most_accurate: frozenset[int]

    def marks(self, position: int) -> str:
        return FASTEST * (position in self.fastest) + MOST_ACCURATE * (position in self.most_accurate)


def best(measurements: Sequence[Measurement]) -> Best:
    """Ranks valid measurements of one device, test set and plan, if there are two or more."""
    position = {id(m): i for i, m in enumerate(measurements)}
    fastest: set[int] = set()
    accurate: set[int] = set()
    for scoped in scopes(measurements).values():
        candidates = [m for m in scoped if m.provenance == "measured" and not m.invalid]
        if len(candidates) < 2:
            continue
        fastest_row = min(candidates, key=_p50)
        fastest |= {position[id(m)] for m in candidates if m is fastest_row or not slower(m, fastest_row)}
        highest = max(map(goodness, candidates))
        accurate |= {position[id(m)] for m in candidates if goodness(m) == highest}
    return Best(frozenset(fastest), frozenset(accurate))


def slower(m: Measurement, other: Measurement) -> bool:
    """Whether `m` is significantly slower than `other`: the 99 % interval of the ratio excludes 1."""
    assert m.latency_ms and other.latency_ms
    if other.latency_ms.p50 <= 0 or m.latency_ms.p50 <= 0:
        return m.latency_ms.p50 > other.latency_ms.p50
    ratio = latency_ratio(m.latency_ms, other.latency_ms, paired=m.session == other.session)
    return ratio.differs and ratio.value > 1


def _p50(m: Measurement) -> float:
    assert m.latency_ms
    return m.latency_ms.p50
