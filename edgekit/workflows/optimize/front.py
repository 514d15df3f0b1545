"""The Pareto front of the trials, and which of them to recommend. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core import statistics
from edgekit.core.measurement import Measurement
from edgekit.workflows.optimize.study import Trial

#: budget → the words for exceeding it
OVER = {"max_drop_pp": "drop too large", "max_latency_ms": "too slow", "max_size_bytes": "too large"}


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Valid trials within the budget that no other dominates in quality, p50 per sample and size, the fastest first.

    Of equal trials only the first is on the front.
    """
    feasible = [t for t in trials if t.feasible]
    undominated = [t for t in feasible if not any(_dominates(o, t) for o in feasible if o is not t)]
    return sorted(undominated, key=lambda t: (t.objectives[1], t.number))


def _dominates(a: Trial, b: Trial) -> bool:
    (qa, pa, sa), (qb, pb, sb) = a.objectives, b.objectives
    no_worse = qa >= qb and pa <= pb and sa <= sb
    return no_worse and ((qa, pa, sa) != (qb, pb, sb) or a.number < b.number)


def nearest(trials: Sequence[Trial]) -> Trial | None:
    """Of the valid trials outside the budget, the one that exceeds it least: by the largest excess, then by the sum."""
    over = [t for t in trials if t.valid and t.violations]
    return min(over, key=lambda t: (max(t.violations.values()), sum(t.violations.values()), t.number), default=None)


def recommended(measured: Sequence[Measurement]) -> Measurement | None:
    """The fastest; if others are not significantly slower, the smallest of these.

    `measured` in one session. Their accuracy, which is that of test data, plays no part: it is within the budget.
    """
    valid = [m for m in measured if m.latency_ms and not m.invalid]
    if not valid:
        return None
    fastest = min(valid, key=_per_sample)
    as_fast = [m for m in valid if m is fastest or not _slower(m, fastest)]
    return min(as_fast, key=lambda m: (m.size_bytes, _per_sample(m)))


def _slower(m: Measurement, than: Measurement) -> bool:
    assert m.latency_ms and than.latency_ms
    if m.latency_ms.plan[1:] != than.latency_ms.plan[1:]:
        return _per_sample(m) > _per_sample(than)
    ratio = statistics.latency_ratio(m.latency_ms, than.latency_ms, paired=m.session == than.session)
    return ratio.differs and ratio.value > 1


def _per_sample(m: Measurement) -> float:
    assert m.latency_ms
    return m.latency_ms.p50 / m.latency_ms.batch
