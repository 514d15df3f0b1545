"""What pictures of values over time share."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from edgekit.report.labels import Box
from edgekit.report.panels import grid, joined, sheet
from edgekit.report.scales import Scale


def test_a_gap_starts_the_line_again() -> None:
    assert (
        joined([(0, 1), (2, 3), None, (4, 5), None], "f0") == '<path class="ek-bar f0" d="M0.0 1.0L2.0 3.0M4.0 5.0"/>'
    )
    assert joined([None], "f0") == '<path class="ek-bar f0" d=""/>'


def test_each_line_of_the_grid_has_its_value() -> None:
    area = Box(10, 0, 90, 100)
    drawn = list(grid(Scale(0.0, 1.0, 100, 0), area, 3))
    lines = [part for part in drawn if part.startswith("<path")]
    assert lines and len(drawn) == 2 * len(lines)
    assert all(part.startswith('<path class="ek-grid" d="M10 ') and part.endswith('H90"/>') for part in lines)


def test_a_sheet_brings_its_style_where_it_stands_alone() -> None:
    alone, inside = (sheet(["<g/>"], 20, 10, "a < b", "c & d", styled) for styled in (True, False))
    assert "<style>" in alone and "<style>" not in inside
    root = ET.fromstring(inside)
    assert (root.get("width"), root.get("height")) == ("20", "10")
    assert [child.text for child in root][:2] == ["a < b", "c & d"]
