"""The picture is well-formed, says everything in words too, and its labels keep clear of each other."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, many, measurement, measurements, metric

from edgekit.core.measurement import Measurement
from edgekit.report import picture
from edgekit.report.labels import Anchor, Box, place
from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import scopes
from edgekit.report.scales import Scale, spans_decade
from edgekit.report.style import COLOURS, FORMATS, SPARE

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.find(f"{SVG}title") is not None and root.find(f"{SVG}desc") is not None
    return root


def words(root: ElementTree.Element) -> str:
    return " ".join(root.itertext())


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_every_artifact_is_in_it(count: int) -> None:
    shown = many(count)
    text = picture(shown, "a title")
    found = words(parsed(text))
    assert all(m.artifact in found for m in shown)
    assert "a title" in found
    assert not re.findall(r"https?://", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))


def test_nothing_to_draw_is_said() -> None:
    assert "No data" in words(parsed(picture([measurement(metric=None), measurement(latency_ms=None)])))


def test_a_name_cannot_become_markup() -> None:
    root = parsed(
        picture([measurement(HOSTILE, target=HOSTILE, runtime=HOSTILE, format=HOSTILE, precision=HOSTILE)], HOSTILE)
    )
    assert not [element for element in root.iter() if element.tag.endswith("script")]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_equal_values_need_no_division(width: int) -> None:
    same = [measurement(f"onnx{i}", 0.5, 2.0) for i in range(5)]
    for zero in (measurement(p50=0.0), measurement(value=0.0, size_bytes=0)):
        for shown in (same, [zero], [zero, *same]):
            for scope, found in scopes(shown).items():
                parsed(inline(scope, found, width, "p"))


def test_the_axis_is_logarithmic_over_more_than_a_decade() -> None:
    assert "log scale" in picture([measurement(p50=0.1), measurement(p50=1.1)])
    assert "log scale" not in picture([measurement(p50=0.1), measurement(p50=0.9)])


def test_another_metric_has_its_unit_and_direction() -> None:
    text = picture([measurement(metric=metric(31.5, name="PSNR", unit="dB", ci95=(31.0, 32.0)))])
    assert "PSNR, dB (higher is better)" in text
    assert "(lower is better)" in picture([measurement(metric=metric(higher_is_better=False))])


def test_invalid_rows_are_marked_in_words() -> None:
    text = picture(
        [measurement("good"), measurement("bad", invalid=("throttled",)), measurement("guess", provenance="estimated")]
    )
    assert "bad (invalid)" in text and "guess (estimated)" in text
    assert "Pareto front, estimated" in text


@given(st.lists(measurements, max_size=6), st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_measurements_give_a_picture(shown: list[Measurement], title: str) -> None:
    text = picture(shown, title)
    text.encode()
    root = parsed(text)
    for element in root.iter():
        for value in element.attrib.values():
            assert "nan" not in value.split() and "inf" not in value.split()


anchors = st.builds(
    Anchor, st.floats(0, 600), st.floats(0, 400), st.floats(1, 25), st.floats(10, 200), st.just(14.0), st.booleans()
)


@given(st.lists(anchors, max_size=30))
@settings(max_examples=60, deadline=None)
def test_labels_never_overlap(points: list[Anchor]) -> None:
    area = Box(0, 0, 600, 400)
    placed = [label for label in place(points, area, []) if label]
    for i, label in enumerate(placed):
        assert area.contains(label.box)
        assert not any(label.box.overlaps(other.box) for other in placed[i + 1 :])
        assert not any(point.touches(label.box, -0.01) for point in points)


def test_forty_are_nearly_all_labelled() -> None:
    left_out = re.search(r"No room to label: ([^<]*)", picture(many(40)))
    assert not left_out or len(left_out[1].split(",")) <= 8


@given(st.lists(st.floats(-1e14, 1e14), min_size=1, max_size=8), st.integers(2, 10))
def test_linear_ticks_are_few_round_and_inside(values: list[float], most: int) -> None:
    scale = Scale.over(values, 0, 500, 20, log=False)
    ticks = [value for value, _ in scale.ticks(most)]
    assert len(ticks) <= most
    assert all(-1e-6 <= scale(value) <= 500 + 1e-6 for value in ticks)


@given(st.lists(st.floats(1e-8, 1e14), min_size=2, max_size=8).filter(spans_decade), st.integers(3, 10))
def test_log_ticks_are_few_and_there(values: list[float], most: int) -> None:
    ticks = Scale.over(values, 0, 500, 20, log=True).ticks(most)
    assert 1 <= len(ticks) <= most


def test_tick_text_shows_its_step() -> None:
    assert [text for _, text in Scale(90.9, 92.8, 0, 100).ticks(5)] == ["91.0", "91.5", "92.0", "92.5"]
    assert [text for _, text in Scale(math.log10(0.04), math.log10(0.7), 0, 100, log=True).ticks(8)] == [
        "0.05",
        "0.1",
        "0.2",
        "0.5",
    ]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_reach_wcag_aa(scheme: int) -> None:
    for ground in ("paper", "panel"):
        for text in ("ink", "soft", "good", "bad", "unsure"):
            assert contrast(COLOURS[text][scheme], COLOURS[ground][scheme]) >= 4.5, (text, ground)
        for drawn in ("front", "focus", *FORMATS.values(), *SPARE):
            assert contrast(COLOURS[drawn][scheme], COLOURS[ground][scheme]) >= 3, (drawn, ground)
