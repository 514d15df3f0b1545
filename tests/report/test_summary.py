"""The summary holds the headline and its numbers, and names what is recommended; no name becomes markup."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, STEERING, latency, many, measurement, measurements
from report.test_headline import FLOAT, int8

from edgekit.core.measurement import Measurement
from edgekit.report import summary
from edgekit.report.labels import text_width
from edgekit.report.summary import ARTIFACT_WIDTH, MARGIN, MOST_ROWS, WIDTH

TEXT = "{http://www.w3.org/2000/svg}text"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(TEXT)]


def test_headline_numbers_table_and_device() -> None:
    shown = texts(
        summary([FLOAT, int8(facts={"cpu": "Cortex-A76", "measured_at": "2026-11-28T10:00:00+00:00"})], "cars")
    )
    assert "cars · 2026-11-28" in shown
    assert "onnx-int8 is 3.6 times smaller and 2.4 times faster than" in " ".join(shown)
    assert {"3.6×", "2.4×", "0.10 points", "smaller", "faster"} <= set(shown)
    assert shown.count("onnx-int8 (recommended)") == 2  # in the picture and in the table
    assert any("Cortex-A76" in line and "5 processes, 1 thread, batch 1" in line for line in shown)


def test_an_interval_and_its_level_stay_on_one_line() -> None:
    shown = texts(summary([FLOAT, int8()]))
    assert not [line for line in shown if "\ufffd" in line or line.startswith("%")]
    assert any("99 %" in line for line in shown)


def test_the_table_is_short_and_starts_with_the_recommended() -> None:
    shown = texts(summary(many(40)))
    start = shown.index("artifact")
    cells = shown[start + 6 : start + 6 + 6 * MOST_ROWS]
    assert cells[0].endswith("(recommended)")
    assert shown[start + 6 + 6 * MOST_ROWS] == "and 34 more"


def test_a_long_name_ends_before_the_next_column() -> None:
    shown = texts(summary([measurement("prune50.mobilenet_v3_large-" * 2)]))
    (cell,) = (line for line in shown[shown.index("artifact") :] if line.endswith("… (recommended)"))
    assert text_width(cell, 14, bold=True) <= ARTIFACT_WIDTH


def test_caveats_of_rows_are_given() -> None:
    cpu = int8(latency_ms=latency(0.5, clock="cpu"))
    assert "onnx-int8: CPU time: other programs used the core" in texts(summary([FLOAT, cpu]))


def test_a_device_with_a_recommendation_comes_first() -> None:
    shown = texts(summary([measurement(target="emu", provenance="emulated"), FLOAT, int8()]))
    assert "3.6×" in shown and any(line.startswith("emu: On emu nothing can be recommended") for line in shown)


def test_other_devices_are_named() -> None:
    elsewhere = [measurement("onnx", target="raspberry-pi-5")]
    assert any(
        line.startswith("raspberry-pi-5: On raspberry-pi-5, ship onnx") for line in texts(summary([FLOAT, *elsewhere]))
    )


def test_nothing_measured_is_said() -> None:
    assert "No measurements." in texts(summary([]))
    assert any("nothing can be recommended" in line for line in texts(summary([measurement(invalid=("throttled",))])))


def test_text_stays_inside_the_page() -> None:
    for element in ElementTree.fromstring(summary(many(12), "a title " * 40)).iter(TEXT):
        assert 0 <= float(element.attrib["x"]) <= WIDTH - MARGIN


def test_a_name_cannot_become_markup() -> None:
    svg = summary([measurement(HOSTILE, target=HOSTILE, runtime=HOSTILE, facts={"cpu": HOSTILE})], HOSTILE)
    assert "script" not in {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert not STEERING.search(svg)


@given(st.lists(measurements, max_size=4), st.text(max_size=20))
@settings(max_examples=30, deadline=None)
def test_any_measurements_give_a_summary(shown: list[Measurement], title: str) -> None:
    ElementTree.fromstring(summary(shown, title).encode())
