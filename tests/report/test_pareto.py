"""Fronts, against every pair compared by brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.made_up import latency, measurement, metric

from edgekit.core.measurement import Measurement
from edgekit.report.pareto import COSTS, fronts, goodness, unbeaten

ROWS = st.lists(
    st.builds(
        measurement,
        value=st.sampled_from([0.5, 0.6, 0.7, math.nan]),
        p50=st.sampled_from([1.0, 2.0, 3.0]),
        size_bytes=st.sampled_from([10, 20]),
        peak_rss_bytes=st.sampled_from([60_000_000, None]),
        provenance=st.sampled_from(["measured", "emulated"]),
        invalid=st.sampled_from([(), (), ("throttled",)]),
    ),
    max_size=12,
)


def beats(a: Measurement, b: Measurement, *costs: str) -> bool:
    own, other = ([-goodness(m), *(COSTS[cost](m) for cost in costs)] for m in (a, b))
    return own != other and all(x <= y for x, y in zip(own, other, strict=True))


@given(ROWS, st.sampled_from(sorted(COSTS)))
def test_nothing_on_a_front_is_beaten(rows: list[Measurement], cost: str) -> None:
    found = fronts(rows, cost)
    for provenance in {m.provenance for m in rows}:
        rivals = [m for m in rows if m.provenance == provenance and not m.invalid]
        front = found.get(provenance, [])
        assert [COSTS[cost](m) for m in front] == sorted(COSTS[cost](m) for m in front)
        wanted = [m for m in rivals if not any(beats(o, m, cost) for o in rivals) and goodness(m) > -math.inf]
        assert {id(m) for m in wanted} <= {id(m) for m in front}
        assert not any(beats(o, m, cost) for m in front for o in rivals)


@given(ROWS)
def test_nothing_unbeaten_is_beaten_in_everything(rows: list[Measurement]) -> None:
    found = unbeaten(rows)
    for provenance in {m.provenance for m in rows}:
        rivals = [m for m in rows if m.provenance == provenance and not m.invalid]
        wanted = {id(m) for m in rivals if not any(beats(o, m, *COSTS) for o in rivals)}
        assert {id(m) for m in found.get(provenance, [])} == wanted


def test_more_is_better() -> None:
    assert goodness(measurement(metric=metric(0.3, higher_is_better=False))) == -0.3
    assert goodness(measurement(metric=None)) == -math.inf


@pytest.mark.parametrize("cost", sorted(COSTS))
def test_what_was_not_measured_costs_infinitely_much(cost: str) -> None:
    bare = measurement(latency_ms=None, peak_rss_bytes=None, size_bytes=5)
    assert COSTS[cost](bare) == (5 if cost == "size" else math.inf)
    assert COSTS[cost](measurement(latency_ms=latency(2.0))) < math.inf
