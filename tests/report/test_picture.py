"""The picture is well-formed, says everything in words too, and its labels keep clear of each other."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, many, measurement, measurements, metric

from edgekit.core.measurement import Measurement
from edgekit.report import picture
from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import scopes

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


def test_the_recommended_is_labelled_first_and_ringed_once() -> None:
    crowd = [measurement(f"a-long-name-of-onnx{i}", 0.9, 1.0 + i / 1e4, size_bytes=1000 + i) for i in range(12)]
    text = picture(crowd)
    assert text.count('class="ek-ring"') == 1
    left_out = re.search(r"No room to label: ([^<]*)", text)
    assert left_out and "(recommended)" not in left_out[1] and ">a-long-name-of-onnx0 (recommended)<" in text


def test_a_bubble_under_another_one_is_labelled() -> None:
    crowd = [measurement("twin", 0.9, p50) for p50 in (1.0, 1.001)] + [measurement("far", p50=2.0)]
    labels = re.findall(r"twin \(onnxruntime\)(?: \(recommended\))?</text>", picture(crowd))
    assert len(labels) == 2 and any("recommended" in label for label in labels)


def test_forty_are_nearly_all_labelled() -> None:
    left_out = re.search(r"No room to label: ([^<]*)", picture(many(40)))
    assert not left_out or len(left_out[1].split(",")) <= 8
