"""A caveat of many rows is said once."""

from __future__ import annotations

from report.made_up import latency, measurement

from edgekit.report.notes import grouped
from edgekit.report.rows import rows


def test_one_line_for_fourteen_invalid_rows() -> None:
    shares = [f"CPU contention: preempted, with {share}% of the core's time" for share in range(40, 54)]
    shown = [measurement("torch"), *(measurement(f"m{i}", invalid=(share,)) for i, share in enumerate(shares))]
    assert list(grouped(rows(shown), "! ")) == [
        "! 14 of 15 rows: invalid: CPU contention: preempted, with 40 to 53% of the core's time"
    ]
    assert next(grouped(rows(shown[1:]))).startswith("all 14 rows: ")


def test_few_rows_are_named_and_different_reasons_stay_apart() -> None:
    shown = [measurement("a", invalid=("hot",)), measurement("b", invalid=("hot",)), measurement("c", invalid=("cut",))]
    assert list(grouped(rows(shown))) == ["a, b: invalid: hot", "c: invalid: cut"]
    other = measurement("a", target="raspberry-pi-5", invalid=("cut",))
    assert list(grouped(rows([shown[0], other]))) == [
        "a on host: invalid: hot",
        "a on raspberry-pi-5: invalid: cut",
    ]


def test_the_plan_of_a_row_is_no_caveat() -> None:
    assert list(grouped(rows([measurement(), measurement(latency_ms=latency(threads=4))]))) == []


def test_ranges_are_of_numbers_not_of_texts() -> None:
    shown = [
        measurement(name, invalid=(f"waited {time} s",)) for name, time in (("a", "9"), ("b", "1,200"), ("c", "30"))
    ]
    assert list(grouped(rows(shown))) == ["a, b, c: invalid: waited 9 to 1,200 s"]
