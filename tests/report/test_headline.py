"""The headline states measured differences only, and names what is not significant or not recommended."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import latency, measurement, measurements, metric

from edgekit.core.measurement import Latency, Measurement, Verdict
from edgekit.report.headline import Figure, headlines

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


def test_a_metric_that_is_better_when_lower_is_worse_or_better() -> None:
    """ "0.30 % of RMSE lost" would be a gain."""
    rmse: dict[str, Any] = {"name": "RMSE", "unit": "m", "higher_is_better": False, "against": "torch"}
    root = dataclasses.replace(FLOAT, metric=metric(1.0, **rmse))
    worse = metric(1.003, drop_pp=0.3, drop_ci95=(0.1, 0.5), **rmse)
    (one,) = headlines([root, int8(metric=worse)])
    assert one.sentence.endswith("than onnx on host, 0.30 % worse in RMSE.")
    assert (one.figures[2].value, one.figures[2].label) == ("0.30 %", "worse in RMSE")
    assert "; worse by +0.10 to +0.50" in one.figures[2].detail
    assert "it is 0.30 % worse in RMSE (95 % interval +0.10 to +0.50)" in " ".join(one.advice.costs)
    for changes, end in (
        ({"drop_ci95": (-0.1, 0.5)}, "with no significant change of RMSE."),
        ({"drop_ci95": None}, "whether its RMSE is worse is not proven."),
        ({"drop_pp": None}, "its change of RMSE was not measured."),
    ):
        (one,) = headlines([root, int8(metric=dataclasses.replace(worse, **changes))])  # type: ignore[arg-type]
        assert one.sentence.endswith(end)


def test_cpu_time_is_called_so_and_compared_with_cpu_time() -> None:
    cpu = latency(1.9, clock="cpu", per_process_cpu=(1.9,) * 5)
    wall = latency(5.0, per_process_cpu=(2.0,) * 5)
    assert _speed_of(cpu, cpu).detail.startswith("p50 CPU time 1.90 → 1.90 ms")
    both = _speed_of(wall, cpu)
    assert (both.value, both.label) == ("1.05×", "faster") and both.detail.startswith("CPU time 2.00 → 1.90 ms")
    unknown = _speed_of(dataclasses.replace(wall, per_process_cpu=()), cpu)
    assert (unknown.value, unknown.label, unknown.tone) == ("1.90 ms", "p50 CPU time, not comparable", "")
    assert unknown.detail == "wall time 5.00 → CPU time 1.90 ms"
    (alone,) = headlines([int8(latency_ms=cpu)])
    assert alone.figures[1].label == "p50 CPU time"


def _speed_of(before: Latency, now: Latency) -> Figure:
    """`now` is recommended, as the only one within its budget."""
    rows = [dataclasses.replace(FLOAT, latency_ms=before, metric=metric(0.5)), int8(latency_ms=now)]
    return headlines(rows)[0].figures[1]


def test_a_device_with_figures_comes_first() -> None:
    emulated = measurement(target="emu", provenance="emulated")
    assert [one.advice.target for one in headlines([emulated, FLOAT, int8()])] == ["host", "emu"]


def test_larger_and_not_faster() -> None:
    """ "but" joins an advantage and what is none."""
    noisy = latency(1.1, per_process_p50=(0.6, 1.6, 1.1, 0.9, 1.4))
    better = metric(0.95, drop_pp=-4.0, drop_ci95=(-5.0, -3.0), against="torch")
    assert "3.6 times larger and not significantly faster" in sentence(
        FLOAT, int8(latency_ms=noisy, size_bytes=1_296_000, metric=better)
    )


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
    rmse = metric(1.0, name="RMSE", unit="m", higher_is_better=False)
    error = int8(metric=rmse, verdict=Verdict("missed", 0.5, "val", None))
    assert "missed its accuracy budget of 0.5 %." in sentence(dataclasses.replace(FLOAT, metric=rmse), error)
    large = int8(p50=1.2, size_bytes=400_000)
    assert "onnx-int8 is not significantly faster, and not smaller" in sentence(FLOAT, large)


def test_a_smaller_int8_artifact_is_not_said_to_be_larger() -> None:
    """It ties with the choice, which ties with the fastest, which it is slower than."""
    fastest = measurement("fastest", latency_ms=latency(1.0), size_bytes=500_000)
    choice = measurement(
        "noisy", latency_ms=latency(1.1, per_process_p50=(0.6, 1.6, 1.1, 0.9, 1.4)), size_bytes=400_000
    )
    small = int8(p50=1.2)
    assert sentence(fastest, choice, small).endswith(
        "No int8 artifact is recommended: onnx-int8 is smaller, but slower than fastest in onnxruntime."
    )


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
