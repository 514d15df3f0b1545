"""Ticks: few, round and inside."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edgekit.report.scales import Scale, spans_decade


@given(st.lists(st.floats(-1e14, 1e14), min_size=1, max_size=8), st.integers(2, 10))
def test_linear_ticks_are_few_round_and_inside(values: list[float], most: int) -> None:
    scale = Scale.over(values, 0, 500, 20, log=False)
    ticks = [value for value, _ in scale.ticks(most)]
    assert len(ticks) <= most
    assert all(-1e-6 <= scale(value) <= 500 + 1e-6 for value in ticks)


@given(st.lists(st.floats(1e-8, 1e14), min_size=2, max_size=8).filter(spans_decade), st.integers(3, 10))
def test_log_ticks_are_few_and_there(values: list[float], most: int) -> None:
    ticks = Scale.over(values, 0, 500, 20, log=True).ticks(most)
    assert 1 <= len(ticks) <= most


def test_tick_text_shows_its_step() -> None:
    assert [text for _, text in Scale(90.9, 92.8, 0, 100).ticks(5)] == ["91.0", "91.5", "92.0", "92.5"]
    assert [text for _, text in Scale(math.log10(0.04), math.log10(0.7), 0, 100, log=True).ticks(8)] == [
        "0.05",
        "0.1",
        "0.2",
        "0.5",
    ]
