"""Which trials no other beats, and which of them to ship. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core import statistics
from edgekit.core.measurement import Measurement
from edgekit.workflows.optimize.study import Trial

#: words for what a trial is over
OVER = {"max_drop_pp": "points too many", "max_latency_ms": "too slow", "max_size_bytes": "too large"}


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Valid trials within the budget that no other one equals or beats in quality, p50 per sample and size, fastest
    first. Of equals the first counts."""
    within = [t for t in trials if t.feasible]
    found = [t for t in within if not any(_beats(o, t) for o in within if o is not t)]
    return sorted(found, key=lambda t: (t.objectives[1], t.number))


def _beats(a: Trial, b: Trial) -> bool:
    (qa, pa, sa), (qb, pb, sb) = a.objectives, b.objectives
    no_worse = qa >= qb and pa <= pb and sa <= sb
    return no_worse and ((qa, pa, sa) != (qb, pb, sb) or a.number < b.number)


def nearest(trials: Sequence[Trial]) -> Trial | None:
    """Of the valid trials outside the budget, the one that exceeds it least: the worst share counts, then their sum."""
    over = [t for t in trials if t.valid and t.violations]
    return min(over, key=lambda t: (max(t.violations.values()), sum(t.violations.values()), t.number), default=None)


def recommended(measured: Sequence[Measurement]) -> Measurement | None:
    """The fastest; where the paired statistics do not tell others apart from it, the smallest of these.

    `measured` side by side. Their accuracy is within the budget already, and plays no part: it is of test data.
    """
    valid = [m for m in measured if m.latency_ms and not m.invalid]
    if not valid:
        return None
    fastest = min(valid, key=_per_sample)
    alike = [m for m in valid if m is fastest or not _slower(m, fastest)]
    return min(alike, key=lambda m: (m.size_bytes, _per_sample(m)))


def _slower(m: Measurement, than: Measurement) -> bool:
    assert m.latency_ms and than.latency_ms
    if m.latency_ms.batch != than.latency_ms.batch:
        return _per_sample(m) > _per_sample(than)
    ratio = statistics.latency_ratio(m.latency_ms, than.latency_ms, paired=m.session == than.session)
    return ratio.differs and ratio.value > 1


def _per_sample(m: Measurement) -> float:
    assert m.latency_ms
    return m.latency_ms.p50 / m.latency_ms.batch
