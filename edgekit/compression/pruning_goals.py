"""How much to cut: the smallest ratio that reaches a goal, by counting, or by measuring on the target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.errors import CannotConvert
from edgekit.core.files import write_atomically

#: what a count is searched among; and a latency, where every try takes half a minute
FINE, COARSE = 0.01, 0.05
LARGEST = 0.95
#: a latency is noisy: this much more than the goal is asked for while searching
MARGIN = 1.03
#: the file in the scratch folder that keeps what was measured
KEPT = "speedups.json"


@dataclass(frozen=True)
class Found:
    """A ratio, and what it reaches: for a count the share that is left, for speed runtime → times faster."""

    ratio: float
    share: float = 1.0
    speedups: Mapping[str, float] | None = None


def by_count(goal: float, count: Callable[[float], int], whole: int, what: str) -> Found:
    """The smallest ratio that leaves at most `goal` (a share) of `whole`. Raises CannotConvert where none does."""

    def reached(ratio: float) -> bool:
        return count(ratio) <= goal * whole

    ratio = _smallest(reached, FINE)
    if ratio is None:
        least = min(_tries(count)) / whole
        why = f"at most {1 - least:.0%} of them can be cut"
        raise CannotConvert(f"{goal:.0%} of the {what} cannot be reached", why, f"ask for {least:.2f} or more")
    return Found(ratio, count(ratio) / whole)


def by_speed(goal: float, measure: Callable[[float], Mapping[str, float]], cache: Path | None) -> Found:
    """The smallest ratio with which every runtime is `goal` times faster.

    `measure(ratio)` gives runtime → times faster; what it gave is written to `kept`, and not measured again. Raises
    CannotConvert, with the fastest that was seen, where none is.
    """
    measured: dict[str, dict[str, float]] = json.loads(cache.read_text()) if cache and cache.is_file() else {}

    def speedups(ratio: float) -> Mapping[str, float]:
        key = f"{ratio:.2f}"
        if key not in measured:
            measured[key] = dict(measure(ratio))
            if cache:
                cache.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(cache, json.dumps(measured))
        return measured[key]

    ratio = _smallest(lambda ratio: min(speedups(ratio).values()) >= goal * MARGIN, COARSE)
    if ratio is None:
        best = max(min(speedups_.values()) for speedups_ in measured.values())
        slow = min(
            measured[max(measured, key=lambda key: min(measured[key].values()))].items(), key=lambda item: item[1]
        )[0]
        why = f"with as few channels as can be it is {best:.2f} times as fast in {slow}"
        raise CannotConvert(f"{goal:g} times faster cannot be reached", why, f"ask for {best / MARGIN:.1f} or less")
    return Found(ratio, speedups=speedups(ratio))


def _smallest(reached: Callable[[float], bool], step: float) -> float | None:
    """The smallest multiple of `step` that reaches the goal, taking larger ones to reach it as well; else None.

    A ratio that cuts nothing has not reached it. Raises CannotConvert where the largest cuts nothing.
    """

    def fine(index: int) -> bool:
        try:
            return reached(round(index * step, 4))
        except CannotConvert:
            return False

    low, high = 0, round(LARGEST / step)
    if not reached(round(high * step, 4)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if fine(middle):
            high = middle
        else:
            low = middle
    return round(high * step, 4)


def _tries(count: Callable[[float], int]) -> list[int]:
    """What some ratios leave, those left out that cut nothing. Raises CannotConvert where none cuts anything."""
    counts, refusal = [], None
    for ratio in (0.3, 0.5, 0.7, 0.8, 0.9, LARGEST):
        try:
            counts.append(count(ratio))
        except CannotConvert as error:
            refusal = error
    if not counts and refusal:
        raise refusal
    return counts


def problems(ratio: float, goals: Mapping[str, float]) -> list[str]:
    """What is wrong with a choice of ratio and goals: just one is wanted."""
    chosen = [name for name, value in {"ratio": ratio, **goals}.items() if value]
    complaints = []
    if len(chosen) != 1:
        complaints.append(
            f"name one of ratio, {', '.join(goals)}" + (f", not {' and '.join(chosen)}" if chosen else "")
        )
    if ratio and not 0 < ratio < 1:
        complaints.append("ratio must lie between 0 and 1: at 1 nothing would be left")
    for name in ("macs", "parameters"):
        if goals[name] and not 0 < goals[name] < 1:
            complaints.append(f"{name} is the share to keep, between 0 and 1")
    if goals["speedup"] and not 1 < goals["speedup"] < 1000:
        complaints.append("speedup must be more than 1, as 1.5 for one and a half times faster")
    return complaints
