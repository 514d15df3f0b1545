"""The headline states measured differences only, and names what is not significant or not recommended."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import latency, measurement, measurements, metric

from edgekit.core.measurement import Measurement, Verdict
from edgekit.report.headline import headlines

FLOAT = measurement("onnx", p50=1.2, size_bytes=360_000)


def int8(p50: float = 0.5, **changes: Any) -> Measurement:
    drop = metric(0.899, drop_pp=0.1, drop_ci95=(0.02, 0.18), against="torch")
    made = measurement("onnx-int8", p50=p50, precision="int8", parents=("onnx",), size_bytes=100_000, metric=drop)
    return dataclasses.replace(made, **changes)


def sentence(*rows: Measurement) -> str:
    return headlines(rows)[0].sentence


def test_three_numbers_with_their_intervals() -> None:
    (one,) = headlines([FLOAT, int8()])
    assert one.sentence == (
        "onnx-int8 is 3.6 times smaller and 2.4 times faster than onnx on host, with 0.10 points of accuracy lost."
    )
    assert [(figure.value, figure.label, figure.tone) for figure in one.figures] == [
        ("3.6×", "smaller", "good"),
        ("2.4×", "faster", "good"),
        ("0.10 points", "of accuracy lost", "bad"),
    ]
    assert [figure.detail for figure in one.figures] == [
        "file 360.0 → 100.0 kB",
        "p50 1.20 → 0.500 ms; 2.40 to 2.40 times (99 %)",
        "now 89.90% over 10,000 samples; drop +0.02 to +0.18 (95 %)",
    ]
    assert one.advice.measurement is not None and one.advice.measurement.artifact == "onnx-int8"


def test_a_loss_within_its_interval_is_not_significant() -> None:
    (one,) = headlines([FLOAT, int8(metric=metric(0.9, drop_pp=0.1, drop_ci95=(-0.1, 0.3), against="torch"))])
    assert one.sentence.endswith("with no significant loss of accuracy.")
    assert (one.figures[2].label, one.figures[2].tone) == ("accuracy lost, not significant", "")


def test_a_gain_is_called_a_gain() -> None:
    gain = metric(0.91, drop_pp=-0.5, drop_ci95=(-0.8, -0.2), against="torch")
    assert sentence(FLOAT, int8(metric=gain)).endswith("with 0.50 points of accuracy gained.")


def test_a_speed_within_the_noise_is_no_speed() -> None:
    noisy = latency(1.1, per_process_p50=(0.6, 1.6, 1.1, 0.9, 1.4))
    (one,) = headlines([FLOAT, int8(latency_ms=noisy)])
    assert "3.6 times smaller but not significantly faster than onnx" in one.sentence
    assert one.figures[1].label == "no significant difference in speed" and not one.figures[1].tone


def test_one_process_shows_no_difference() -> None:
    once = latency(0.5, processes=1, per_process_p50=(0.5,))
    (one,) = headlines([FLOAT, int8(latency_ms=once)])
    assert "not significantly faster" in one.sentence and "one process only" in one.figures[1].label


def test_why_no_int8_is_recommended() -> None:
    assert sentence(FLOAT, int8(p50=2.4)).endswith("No int8 artifact is recommended: onnx-int8 is slower.")
    missed = int8(verdict=Verdict("missed", 0.5, "val", None))
    assert sentence(FLOAT, missed).endswith(
        "No int8 artifact is recommended: onnx-int8 missed its accuracy budget of 0.5 points."
    )
    broken = int8(invalid=("throttled",))
    assert "the measurement of onnx-int8 is invalid (throttled)" in sentence(FLOAT, broken)
    poor = int8(metric=metric(0.7))
    assert "onnx-int8 loses too much accuracy" in sentence(FLOAT, poor)
    large = int8(p50=1.2, size_bytes=400_000)
    assert "onnx-int8 is not significantly faster, and not smaller" in sentence(FLOAT, large)


def test_nothing_recommended_has_no_numbers() -> None:
    (one,) = headlines([measurement(invalid=("throttled",))])
    assert "nothing can be recommended" in one.sentence and one.figures == ()
    assert headlines([]) == []


def test_an_invalid_parent_is_no_baseline() -> None:
    (one,) = headlines([dataclasses.replace(FLOAT, invalid=("throttled",)), int8()])
    assert one.baseline is None and "times" not in one.sentence
    assert one.figures[0].value == "100.0 kB" and one.figures[1].value == "0.500 ms"


def test_another_format_is_compared_with_its_float_root() -> None:
    root = measurement("torch", p50=1.2, size_bytes=360_000, format="torch", runtime="torch")
    lite = int8(artifact="tflite-int8", format="tflite", parents=("torch",))
    assert sentence(root, lite).startswith("tflite-int8 is 3.6 times smaller and 2.4 times faster than torch on host")


@given(st.lists(measurements, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_measurements_give_headlines(shown: list[Measurement]) -> None:
    for one in headlines(shown):
        assert one.sentence and len(one.figures) in (0, 3)
        assert not any(figure.tone == "good" and "nan" in figure.value for figure in one.figures)
