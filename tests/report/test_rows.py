"""Cells, and which rows may be compared at all."""

from __future__ import annotations

import math

import pytest
from report.made_up import latency, measurement, metric

from edgekit.report.pareto import fronts
from edgekit.report.rows import gains, number, ratios, rows, scopes


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05203, "0.0520"), (12.0, "12.0"), (99.96, "100"), (1234.4, "1234"), (0.0001, "0.0001"), (math.inf, "inf")],
)
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_the_front_holds_what_nothing_beats() -> None:
    fast, good, beaten = measurement("a", 0.90, 1), measurement("b", 0.95, 2), measurement("c", 0.94, 3)
    assert fronts([beaten, good, fast]) == {"measured": [fast, good]}


def test_equal_rows_are_both_on_the_front() -> None:
    twins = [measurement("a"), measurement("b")]
    assert fronts(twins) == {"measured": twins}


def test_an_error_is_better_when_lower() -> None:
    low = measurement("low", metric=metric(0.1, higher_is_better=False))
    high = measurement("high", metric=metric(0.2, higher_is_better=False))
    assert fronts([high, low]) == {"measured": [low]}


def test_invalid_rows_are_never_ranked_and_provenances_never_together() -> None:
    real = measurement("real", 0.9, 5)
    emulated = measurement("emulated", 0.95, 1, provenance="emulated")
    broken = measurement("broken", 0.99, 0.1, invalid=("throttled",))
    assert fronts([real, emulated, broken]) == {"measured": [real], "emulated": [emulated]}


@pytest.mark.parametrize(
    "other",
    [
        measurement(target="raspberry-pi-5"),
        measurement(facts={"cpu": "another"}),
        measurement(metric=metric(set_sha256="other")),
        measurement(latency_ms=latency(batch=8)),
        measurement(latency_ms=latency(threads=4)),
    ],
    ids=["target", "machine", "test set", "batch", "threads"],
)
def test_what_was_measured_otherwise_is_not_compared(other: object) -> None:
    assert len(scopes([measurement(), other])) == 2  # type: ignore[list-item]


def test_rows_without_a_usable_figure_are_in_no_scope() -> None:
    assert not scopes(
        [
            measurement(metric=None),
            measurement(latency_ms=None),
            measurement(value=math.nan),
            measurement(p50=math.inf),
            measurement(p50=-1.0),
        ]
    )


def _pair(p50: float, **changes: object) -> list[object]:
    parent = measurement("onnx", p50=1.0, size_bytes=400_000, weight_bytes=360_000)
    return [parent, measurement("onnx-int8", p50=p50, precision="int8", parents=("onnx",), **changes)]


def test_slower_is_called_slower() -> None:
    assert "p50 2.00 times SLOWER" in ratios(_pair(2.0))[0]  # type: ignore[arg-type]
    assert "weights 4.00 times smaller, file 4.00 times smaller, p50 2.00 times faster" in ratios(_pair(0.5))[0]  # type: ignore[arg-type]


def test_a_difference_is_called_only_where_the_interval_excludes_one() -> None:
    noisy = latency(1.001, per_process_p50=(0.98, 1.03, 0.99, 1.02, 1.0))
    assert ratios(_pair(1.0, latency_ms=noisy))[0].endswith("p50 not significantly different (99 % CI)")  # type: ignore[arg-type]


def test_a_higher_error_rate_is_worse() -> None:
    error = metric(0.104, name="error rate", higher_is_better=False, drop_pp=0.4, drop_p=0.001, against="torch")
    assert ratios(_pair(0.5, metric=error))[0].endswith("error rate 0.40 points WORSE")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"invalid": ("throttled",)}, {"provenance": "emulated"}, {"latency_ms": latency(0.5, batch=8)}]
)
def test_no_speed_is_claimed_across_what_cannot_be_compared(change: dict[str, object]) -> None:
    (gain,) = gains(_pair(0.5, **change))  # type: ignore[arg-type]
    assert gain.p50 is None and gain.file == 4.0


def test_each_run_keeps_its_own_parent() -> None:
    """Two runs shown together have artifacts of the same name."""
    first = [measurement("onnx", p50=1.0), measurement("onnx-int8", p50=0.5, precision="int8", parents=("onnx",))]
    other = metric(set_sha256="other")
    second = [
        measurement("onnx", p50=10.0, metric=other),
        measurement("onnx-int8", p50=2.0, precision="int8", parents=("onnx",), metric=other),
    ]
    assert [gain.p50 for gain in gains([*first, *second])] == pytest.approx([2.0, 5.0])


def test_a_row_says_its_plan_where_there_are_several() -> None:
    swept = rows([measurement(), measurement(latency_ms=latency(threads=4))])
    assert [row.notes for row in swept] == [("1 thread, batch 1",), ("4 threads, batch 1",)]
    assert rows([measurement()])[0].notes == ()
