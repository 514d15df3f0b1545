"""The smallest ratio that reaches a goal, no measurement taken twice, and what is out of reach named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compression import pruning_goals
from edgekit.compression.pruning_goals import MARGIN
from edgekit.core.errors import CannotConvert


@given(st.floats(0.1, 0.95))
def test_the_smallest_ratio(goal: float) -> None:
    found = pruning_goals.by_count(goal, lambda ratio: round(1000 * (1 - ratio)), 1000, "MACs")
    assert found.share <= goal < found.share + 0.011
    assert found.share == pytest.approx(1 - found.ratio, abs=1e-3)


def test_a_count_out_of_reach() -> None:
    with pytest.raises(CannotConvert, match=r"10% of the MACs cannot be reached.*40%") as refused:
        pruning_goals.by_count(0.1, lambda ratio: max(600, round(1000 * (1 - ratio))), 1000, "MACs")
    assert "0.60 or more" in refused.value.next


def test_ratios_that_cut_nothing_have_not_reached_it() -> None:
    def count(ratio: float) -> int:
        if ratio < 0.4:
            raise CannotConvert("there is nothing to prune", "too little")
        return 500

    assert pruning_goals.by_count(0.9, count, 1000, "parameters").ratio == pytest.approx(0.4)


def test_the_slowest_runtime_decides_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    asked: list[float] = []

    def measure(ratio: float) -> dict[str, float]:
        asked.append(ratio)
        return {"onnxruntime": 1 + 2 * ratio, "litert": 1 + ratio}

    kept = tmp_path / "scratch" / "speedups.json"
    found = pruning_goals.by_speed(1.5, measure, kept)
    wanted = {"onnxruntime": 1 + 2 * found.ratio, "litert": 1 + found.ratio}
    assert found.speedups == pytest.approx(wanted)
    assert 1 + found.ratio >= 1.5 and 1 + found.ratio - 0.05 < 1.5 * MARGIN
    first = len(asked)
    assert len(set(asked)) == first
    assert pruning_goals.by_speed(1.5, measure, kept) == found and len(asked) == first
    assert len(json.loads(kept.read_text())) == first


def test_a_speed_out_of_reach() -> None:
    with pytest.raises(CannotConvert, match=r"3 times faster cannot be reached.*litert"):
        pruning_goals.by_speed(3, lambda ratio: {"onnxruntime": 9.0, "litert": 1 + ratio}, None)


@pytest.mark.parametrize(
    ("ratio", "given", "said"),
    [
        (0.0, {}, "name one of"),
        (0.5, {"macs": 0.5}, "not ratio and macs"),
        (1.0, {}, "nothing would be left"),
        (-0.1, {}, "between 0 and 1"),
        (0.0, {"macs": 1.5}, "share to keep"),
        (0.0, {"speedup": 0.5}, "more than 1"),
    ],
)
def test_what_cannot_be_a_goal(ratio: float, given: dict[str, float], said: str) -> None:
    found = pruning_goals.problems(ratio, {"macs": 0.0, "parameters": 0.0, "speedup": 0.0, **given})
    assert said in "; ".join(found)


@pytest.mark.parametrize("goal", ["macs", "parameters", "speedup"])
def test_a_goal_alone_is_fine(goal: str) -> None:
    given = {"macs": 0.0, "parameters": 0.0, "speedup": 0.0, goal: 1.5 if goal == "speedup" else 0.5}
    assert not pruning_goals.problems(0.0, given)
