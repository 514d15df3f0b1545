"""What to ship, what it costs, what is not proven; and which rows are marked as the best."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import latency, measurement, measurements, metric

from edgekit.core.measurement import Measurement, Verdict
from edgekit.report.advice import advice, lines
from edgekit.report.best import best
from edgekit.report.matrix import model
from edgekit.report.pareto import fronts, unbeaten

NOISY = latency(1.01, per_process_p50=(0.95, 1.06, 1.0, 1.05, 0.99))


def int8(name: str = "onnx-int8", value: float = 0.9, p50: float = 0.5, **changes: object) -> Measurement:
    changes = {"parents": ("onnx",), "verdict": Verdict("met", 0.5, "val"), "size_bytes": 30_000, **changes}
    made = measurement(name, value, p50, precision="int8", **changes)
    return dataclasses.replace(made, metric=dataclasses.replace(made.metric, against="torch") if made.metric else None)


def said(*rows: Measurement) -> str:
    return "\n".join(lines(advice(rows)))


def test_the_fastest_within_the_budget_is_named_with_its_cost() -> None:
    text = said(measurement("onnx", 0.902), int8())
    assert "On host, ship onnx-int8 in onnxruntime: 90.00% accuracy, p50 0.500 ms, 30.0 kB, 12.0 MB of memory." in text
    assert "It is the fastest of all." in text
    assert (
        "Compared with torch, 10,000 samples show no significant change of accuracy (drop 0.10 points, 95 % interval"
        in text
    )
    assert "Compared with its parent onnx: file 3.33 times smaller, p50 2.00 times faster." in text
    assert "Best accuracy: onnx, 90.20% accuracy (0.20 points of accuracy better; not proven, the intervals" in text


def test_a_loss_beyond_its_interval_is_called_one() -> None:
    m = int8()
    lost = dataclasses.replace(m, metric=dataclasses.replace(m.metric, drop_pp=0.4, drop_ci95=(0.2, 0.6)))  # type: ignore[type-var]
    assert "Compared with torch, it loses 0.40 points of accuracy (95 % interval +0.20 to +0.60)." in said(
        measurement("onnx"), lost
    )


def test_what_is_faster_and_worse_is_offered_and_not_shipped() -> None:
    (one,) = advice([measurement("good", 0.95, 2.0), measurement("fast", 0.85, 1.0)])
    assert one.artifact == "good"
    assert "Faster by 2.00 times: fast, p50 1.00 ms, at a cost of 10.00 points of accuracy." in one.costs


def test_of_those_that_cannot_be_told_apart_the_smallest() -> None:
    (one,) = advice([measurement("large", p50=1.0), measurement("small", size_bytes=9_000, latency_ms=NOISY)])
    assert one.artifact == "small"
    assert "there is no significant difference from large, and it is the smallest." in one.ship[1]
    assert best([measurement("large"), measurement("small", latency_ms=NOISY)]).fastest == {0, 1}


def test_provenances_are_never_weighed_together() -> None:
    rows = [measurement("real", 0.9, 5.0), measurement("other", 0.95, 1.0, provenance="emulated")]
    (one,) = advice(rows)
    assert one.artifact == "real" and "other" not in " ".join((*one.ship, *one.costs))
    assert best(rows) == best(rows[:1]) and not best(rows).fastest
    (only,) = advice(rows[1:])
    assert only.artifact is None and "nothing can be recommended: its figures are emulated" in only.ship[0]


def test_what_is_not_proven_is_said() -> None:
    undecided = int8(verdict=Verdict("undecided", 0.5, "val", 23_400))
    broken = measurement("tflite", 0.9, 0.1, invalid=("throttled",))
    missed = int8("bad-int8", p50=0.01, verdict=Verdict("missed", 0.5, "val"))
    elsewhere = measurement("extra", target="pi", p50=9.0)
    (one, pi) = advice([measurement("onnx"), undecided, broken, missed, elsewhere])
    assert one.artifact == "onnx-int8"
    text = "\n".join(one.unproven)
    assert "that onnx-int8 stays within 0.5 points on val; about 23,400 samples would decide." in text
    assert "anything about tflite: invalid (throttled), so not ranked." in text
    assert "that bad-int8 can be used: the accuracy budget was missed, so not ranked." in text
    assert "how extra performs on host: not measured there." in text
    assert pi.target == "pi" and "There is no alternative." in pi.ship


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([measurement(invalid=("throttled",))], "every measurement is invalid (onnx: throttled)"),
        ([int8(verdict=Verdict("missed", 0.5, "val"))], "every artifact missed its accuracy budget"),
        ([measurement(metric=None)], "On host the fastest is onnx in onnxruntime: p50 1.00 ms"),
        ([measurement(metric=None, latency_ms=None)], "no valid measurement"),
        ([measurement(latency_ms=None)], "nothing was timed"),
    ],
)
def test_where_nothing_can_be_recommended_the_reason_is_given(rows: list[Measurement], wanted: str) -> None:
    assert wanted in said(*rows)


def test_an_error_is_better_when_lower() -> None:
    good = measurement("good", metric=metric(2.0, name="RMSE", unit="", higher_is_better=False, drop_pp=None))
    bad = measurement("bad", p50=0.5, metric=metric(3.0, name="RMSE", unit="", higher_is_better=False, drop_pp=None))
    (one,) = advice([good, bad])
    assert one.artifact == "good" and "at a cost of 50.00 % of RMSE" in one.costs[0]
    assert best([good, bad]).most_accurate == {0}


def test_a_gain_is_that_in_the_recommended_runtime() -> None:
    slow = int8(p50=3.0, runtime="onnxruntime")
    text = said(measurement("onnx"), slow, int8(p50=0.5, runtime="openvino"))
    assert "ship onnx-int8 in openvino" in text
    assert "Compared with its parent onnx: file 3.33 times smaller, p50 2.00 times faster." in text


def test_a_budget_has_the_unit_of_its_metric() -> None:
    rmse = metric(2.0, name="RMSE", unit="m", higher_is_better=False)
    undecided = measurement("int8", metric=rmse, verdict=Verdict("undecided", 0.5, "val"))
    assert "that int8 stays within 0.5 % on val" in said(undecided)


def test_without_labels_each_plan_has_its_fastest() -> None:
    rows = [measurement(p50=p50, metric=None, latency_ms=latency(p50, threads=n)) for n, p50 in ((1, 2.0), (4, 1.0))]
    one, four = advice(rows)
    assert one.ship[0].startswith("On host (1 thread, batch 1) the fastest is onnx in onnxruntime: p50 2.00 ms")
    assert four.ship[0].startswith("On host (4 threads, batch 1) the fastest is onnx in onnxruntime: p50 1.00 ms")


def test_a_front_for_every_cost() -> None:
    fast, small = measurement("fast", 0.9, 1.0, size_bytes=50), measurement("small", 0.9, 2.0, size_bytes=10)
    good, beaten = measurement("good", 0.95, 3.0, size_bytes=60), measurement("beaten", 0.9, 3.0, size_bytes=70)
    rows = [fast, small, good, beaten]
    assert fronts(rows) == {"measured": [fast, good]}
    assert fronts(rows, "size") == {"measured": [small, good]}
    assert unbeaten(rows) == {"measured": [fast, small, good]}


@pytest.mark.parametrize(
    ("artifact", "format", "name"),
    [
        ("onnx", "onnx", "float"),
        ("onnx-int8", "onnx", "int8"),
        ("ds.tflite-int8", "tflite", "ds int8"),
        ("ds.torch", "torch", "ds"),
        ("prune50.torch~train", "torch", "prune50 ~train"),
        ("a/onnx-int8@x86", "onnx", "a/onnx-int8@x86"),
    ],
)
def test_a_model_is_named_without_its_format(artifact: str, format: str, name: str) -> None:
    assert model(measurement(artifact, format=format)) == name


@given(st.lists(measurements, max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_measurements_give_advice(found: list[Measurement]) -> None:
    assert len(advice(found)) >= bool(found)
    marks = best(found)
    assert all(not found[i].invalid and found[i].provenance == "measured" for i in marks.fastest | marks.most_accurate)
