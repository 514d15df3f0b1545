"""Which rows are marked: the fastest with what may be as fast, and the best metric; never across devices."""

from __future__ import annotations

from dataclasses import replace

from report.made_up import latency, measurement

from edgekit.core.measurement import Measurement
from edgekit.report.best import FASTEST, MOST_ACCURATE, best, slower


def timed(name: str, p50: float, value: float = 0.9, spread: float = 0.01, **changes: object) -> Measurement:
    each = tuple(p50 * (1 + spread * step) for step in (-1.0, -0.5, 0.0, 0.5, 1.0))
    times = latency(p50, per_process_p50=each, ci95=(p50 * (1 - spread), p50 * (1 + spread)))
    return replace(measurement(name, value, p50), latency_ms=times, session=name, **changes)  # type: ignore[arg-type]


def test_what_cannot_be_told_from_the_fastest_is_marked_too() -> None:
    marks = best([timed("a", 1.0), timed("b", 1.001), timed("c", 2.0)])
    assert marks.fastest == {0, 1}
    assert marks.marks(0).startswith(FASTEST) and not marks.marks(2).startswith(FASTEST)


def test_the_best_metric() -> None:
    marks = best([timed("a", 1.0, 0.7), timed("b", 3.0, 0.9), timed("c", 2.0, 0.9)])
    assert marks.most_accurate == {1, 2} and MOST_ACCURATE in marks.marks(1)


def test_devices_are_not_compared() -> None:
    rows = [timed("a", 1.0), timed("b", 2.0), timed("a", 5.0, target="pi"), timed("b", 9.0, target="pi")]
    assert best(rows).fastest == {0, 2}


def test_one_row_is_not_the_best_of_anything() -> None:
    assert best([timed("a", 1.0)]).marks(0) == ""
    assert best([timed("a", 1.0), timed("b", 0.5, invalid=("throttled",))]).marks(1) == ""
    assert best([timed("a", 1.0), timed("b", 0.5, provenance="emulated")]).marks(0) == ""


def test_a_difference_within_the_noise_is_none() -> None:
    assert slower(timed("a", 2.0), timed("b", 1.0))
    assert not slower(timed("a", 1.0), timed("b", 2.0))
    assert not slower(timed("a", 1.05, spread=0.3), timed("b", 1.0, spread=0.3))
