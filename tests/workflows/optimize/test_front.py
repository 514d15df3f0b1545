"""Which trials no other one beats, and which comes closest to the budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

pytest.importorskip("optuna")
from workflows.optimize.made_up import SPACE

from edgekit.workflows.optimize.front import front, nearest
from edgekit.workflows.optimize.study import Trial


def made(number: int, quality: float, p50: float, size: int, **violations: float) -> Trial:
    return Trial(number, SPACE.point(), "finished", quality=quality, p50_ms=p50, size_bytes=size, violations=violations)


def numbers(trials: Sequence[Trial]) -> list[int]:
    return [trial.number for trial in trials]


def test_the_front() -> None:
    a, b, c = made(0, 0.9, 1.0, 100), made(1, 0.8, 0.5, 100), made(2, 0.8, 0.6, 100)
    same, small = made(3, 0.9, 1.0, 100), made(4, 0.1, 9.0, 1)
    over = made(5, 0.99, 0.1, 1, max_latency_ms=0.1)
    disturbed = dataclasses.replace(made(6, 0.99, 0.1, 1), invalid=("CPU contention",))
    pruned = Trial(7, SPACE.point(), "pruned", "too large")
    assert numbers(front([a, b, c, same, small, over, disturbed, pruned])) == [1, 0, 4]
    assert front([]) == []


def test_the_nearest_possible() -> None:
    far = made(0, 0.9, 1.0, 100, max_latency_ms=2.0)
    near = made(1, 0.9, 1.0, 100, max_latency_ms=0.5, max_size_bytes=0.5)
    assert nearest([far, near, made(2, 0.9, 1, 1)]) == near
    assert nearest([made(2, 0.9, 1, 1)]) is None
