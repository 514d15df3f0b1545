"""The smallest pruning ratio that reaches a goal, by counting, or by measuring on the target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.config import Misfit, convert
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.files import write_atomically
from edgekit.core.json import read

#: the search step of a count; and of a latency, where every trial takes half a minute
FINE, COARSE = 0.01, 0.05
LARGEST = 0.95
#: a latency is noisy: the search requires this factor more than the goal
MARGIN = 1.03
#: the file of the measured speedups in the scratch folder
SPEEDUPS_FILE = "speedups.json"


@dataclass(frozen=True)
class SearchResult:
    """A ratio and what it reaches: the remaining share for a count, or the speedup of each runtime."""

    ratio: float
    share: float = 1.0
    speedups: Mapping[str, float] | None = None


def by_count(goal: float, count: Callable[[float], int], whole: int, what: str) -> SearchResult:
    """The smallest ratio that leaves at most `goal` (a share) of `whole`. Raises CannotConvert if none does."""

    def reached(ratio: float) -> bool:
        return count(ratio) <= goal * whole

    ratio = _smallest(reached, FINE)
    if ratio is None:
        least = min(_tries(count)) / whole
        why = f"at most {1 - least:.0%} of them can be removed"
        raise CannotConvert(f"{goal:.0%} of the {what} cannot be reached", why, f"ask for {least:.2f} or more")
    return SearchResult(ratio, count(ratio) / whole)


def by_speed(goal: float, measure: Callable[[float], Mapping[str, float]], cache: Path | None) -> SearchResult:
    """The smallest ratio that makes every runtime `goal` times faster.

    `measure(ratio)` returns runtime → speedup; results are written to `cache` and not measured again. Raises
    CannotConvert, with the highest measured speedup, if no ratio does.
    """
    measured = _measured(cache) if cache and cache.is_file() else {}

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
        best = max(min(by_runtime.values()) for by_runtime in measured.values())
        fastest = max(measured.values(), key=lambda by_runtime: min(by_runtime.values()))
        slow = min(fastest.items(), key=lambda item: item[1])[0]
        why = f"with the fewest possible channels it is {best:.2f} times as fast in {slow}"
        raise CannotConvert(f"{goal:g} times faster cannot be reached", why, f"ask for {best / MARGIN:.1f} or less")
    return SearchResult(ratio, speedups=speedups(ratio))


def _measured(cache: Path) -> dict[str, dict[str, float]]:
    """ratio → runtime → speedup; empty if the file is damaged: it is measured again."""
    try:
        return dict(convert(read(cache), Mapping[str, Mapping[str, float]]))
    except (InputError, Misfit):
        return {}


def _smallest(reached: Callable[[float], bool], step: float) -> float | None:
    """The smallest multiple of `step` that reaches the goal, by bisection (larger ratios must reach it, too); or None.

    A ratio that prunes nothing does not reach it. Raises CannotConvert if the largest prunes nothing.
    """

    def reaches(index: int) -> bool:
        try:
            return reached(round(index * step, 4))
        except CannotConvert:
            return False

    low, high = 0, round(LARGEST / step)
    if not reached(round(high * step, 4)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle
    return round(high * step, 4)


def _tries(count: Callable[[float], int]) -> list[int]:
    """The counts left by some ratios that prune something. Raises CannotConvert if none does."""
    counts, refused = [], None
    for ratio in (0.3, 0.5, 0.7, 0.8, 0.9, LARGEST):
        try:
            counts.append(count(ratio))
        except CannotConvert as error:
            refused = error
    if not counts and refused:
        raise refused
    return counts


def problems(ratio: float, goals: Mapping[str, float]) -> list[str]:
    """The problems with a choice of ratio and goals: exactly one must be set."""
    chosen = [name for name, value in {"ratio": ratio, **goals}.items() if value]
    messages = []
    if len(chosen) != 1:
        messages.append(f"name one of ratio, {', '.join(goals)}" + (f", not {' and '.join(chosen)}" if chosen else ""))
    if ratio and not 0 < ratio < 1:
        messages.append("ratio must lie between 0 and 1: at 1 nothing would be left")
    for name in ("macs", "parameters"):
        if goals[name] and not 0 < goals[name] < 1:
            messages.append(f"{name} is the share to keep, between 0 and 1")
    if goals["speedup"] and not 1 < goals["speedup"] < 1000:
        messages.append("speedup must be more than 1, for example 1.5 for one and a half times faster")
    return messages
