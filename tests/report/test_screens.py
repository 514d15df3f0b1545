"""The page and the summary as a browser lays them out: 1280 and 390 pixels wide, light and dark.

Their structure is compared, not their pixels: fonts differ between machines, and a reference picture would either fail
with each font or allow so much that a label over another passes. So the boxes of elements, the overlap of texts and the
contrast of colours are computed from what Chromium drew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Tab, browser
from report import test_boxes
from report.made_up import latency, many, measurement, metric
from report.test_headline import FLOAT, int8

from edgekit.core.measurement import Measurement, Verdict
from edgekit.report import html, picture, summary

pytestmark = pytest.mark.slow

#: elements that stick out of the window, outside of what scrolls by itself
OUTSIDE = """[...document.body.querySelectorAll('*')].filter(e => e.checkVisibility({visibilityProperty: true})
&& !e.closest('.scroll, .skip, .away, caption, thead, svg') && e.getBoundingClientRect().width > 1
&& (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1))
.map(e => e.tagName + '.' + e.className)"""

#: pairs of visible texts of a picture that overlap, and texts outside of it
OVERLAPS = """(() => { const found = [];
for (const svg of document.querySelectorAll('svg.ek')) {
  const box = svg.getBoundingClientRect();
  const all = [...svg.querySelectorAll('text')].filter(t => t.checkVisibility())
    .map(t => [t.textContent, t.getBoundingClientRect()]);
  all.forEach(([a, r], i) => {
    if (r.left < box.left - 1 || r.right > box.right + 1 || r.bottom > box.bottom + 1) found.push([a, 'outside']);
    for (const [b, s] of all.slice(i + 1)) {
      const [wide, high] = [Math.min(r.right, s.right) - Math.max(r.left, s.left),
        Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top)];
      if (wide > 1 && high > 0.3 * Math.min(r.height, s.height)) found.push([a, b]);
    }
  });
} return found; })()"""

#: visible texts whose contrast is below WCAG's AA: 4.5, or 3 from 24 px, and from 18.66 px if bold
FAINT = """(() => {
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c; } return PAPER; };
const texts = [...document.querySelectorAll('*')].filter(e => [...e.childNodes].some(n => n.nodeType === 3
  && n.textContent.trim()) && e.checkVisibility({visibilityProperty: true})
  && !e.closest('style, script, title, desc, option'));
return texts.map(e => { const s = getComputedStyle(e), ink = rgb(e instanceof SVGElement ? s.fill : s.color);
  const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x), size = parseFloat(s.fontSize);
  const least = size >= 24 || (size >= 18.66 && s.fontWeight >= 700) ? 3 : 4.5;
  return [(a + 0.05) / (b + 0.05) / least, e.textContent.trim().slice(0, 40)]; }).filter(([ratio]) => ratio < 1);
})()"""


def run() -> list[Measurement]:
    """A made-up run on a board and a host: one missed budget, one invalid row, one undecided."""
    facts = {"cpu": "Cortex-A76", "cores": 4, "measured_at": "2026-11-28T10:00:00+00:00"}
    unsure = metric(0.9, drop_pp=0.1, drop_ci95=(-0.1, 0.3), against="torch")
    board = [
        dataclasses.replace(FLOAT, artifact="torch", format="torch", runtime="torch", latency_ms=latency(3.1)),
        FLOAT,
        int8(metric=unsure, verdict=Verdict("met", 0.5, "val", None)),
        measurement("tflite", 0.9, 1.3, format="tflite", runtime="litert", size_bytes=365_000),
        measurement(
            "tflite-int8", 0.87, 0.4, format="tflite", runtime="litert", precision="int8", parents=("tflite",),
            verdict=Verdict("missed", 0.5, "val", None), size_bytes=104_000,
        ),
        measurement("openvino-int8", 0.9, 0.6, format="openvino", precision="int8", invalid=("throttled",)),
        measurement("prune.onnx-int8", 0.899, 0.7, precision="int8", verdict=Verdict("undecided", 0.5, "val", 23_400)),
    ]  # fmt: skip
    return [dataclasses.replace(m, target="raspberry-pi-5", facts=facts) for m in board] + [FLOAT, int8()]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as tab:
        yield tab


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screens")
    (folder / "page.html").write_text(html(run(), "cars"), encoding="utf-8")
    (folder / "crowded.html").write_text(html(many(40), "cars " * 30), encoding="utf-8")
    (folder / "boxes.html").write_text(test_boxes.page(), encoding="utf-8")
    (folder / "summary.svg").write_text(summary(run(), "cars"), encoding="utf-8")
    (folder / "crowded.svg").write_text(summary(many(40), "cars"), encoding="utf-8")
    (folder / "picture.svg").write_text(picture(run(), "cars"), encoding="utf-8")
    return folder


def faint(tab: Tab, dark: bool) -> Any:
    return tab.run(FAINT.replace("PAPER", "[13, 17, 23]" if dark else "[255, 255, 255]"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["page.html", "crowded.html", "boxes.html"])
def test_the_page_fits_and_can_be_read(chromium: Tab, files: Path, name: str, width: int, dark: bool) -> None:
    chromium.complaints.clear()
    chromium.open(files / name, width, 900, dark=dark, phone=width < 700)
    assert chromium.run("document.querySelector('h1').getBoundingClientRect().bottom") < 900
    for opened in (False, True):
        chromium.run(f"document.querySelectorAll('details').forEach(d => d.open = {str(opened).lower()})")
        assert chromium.run("document.documentElement.scrollWidth") == width
        assert chromium.run(OUTSIDE) == []
        assert faint(chromium, dark) == []
    chromium.run("document.documentElement.classList.remove('js')")  # the pictures of a reader without scripts
    assert chromium.run(OVERLAPS) == []
    assert chromium.complaints == []


def test_the_table_needs_no_scrolling_and_the_recommended_row_is_marked_once(chromium: Tab, files: Path) -> None:
    chromium.open(files / "page.html", 1280, 900)
    region = "document.querySelector('#all .scroll')"
    assert chromium.run(f"{region}.scrollWidth - {region}.clientWidth") == 0
    marked = "[...document.querySelectorAll('.badge')].map(b => b.closest('tr').dataset).map(d => [d.name, d.target])"
    assert chromium.run(marked) == [["onnx-int8", "raspberry-pi-5"], ["onnx-int8", "host"]]
    chromium.click("#columns")
    assert chromium.run("document.querySelectorAll('.rows thead th.more').length") > 4
    assert chromium.run("document.querySelector('.rows .more').checkVisibility()")
    assert chromium.run("document.documentElement.scrollWidth") == 1280


def test_folds_open_by_keyboard_by_link_and_on_paper(chromium: Tab, files: Path) -> None:
    chromium.open(files / "page.html", 1280, 900)
    chromium.run("document.querySelector('.fold summary').focus()")
    chromium.key("Enter", 13)
    assert chromium.run("document.querySelector('.fold').open")
    chromium.click("nav a[href='#devices']")
    assert chromium.run("document.querySelector('#devices').closest('details').open")
    chromium.run("dispatchEvent(new Event('beforeprint'))")
    assert chromium.run("document.querySelectorAll('details:not([open])').length") == 0
    chromium.run("dispatchEvent(new Event('afterprint'))")
    assert chromium.run("[...document.querySelectorAll('.fold')].filter(d => d.open).length") == 2


def test_intervals_are_drawn_when_asked_for(chromium: Tab, files: Path) -> None:
    chromium.open(files / "page.html", 1280, 900)
    without = chromium.run("canvas.toDataURL()")
    chromium.click("#intervals")
    assert chromium.run("canvas.toDataURL()") != without
    chromium.click("#intervals")
    assert chromium.run("canvas.toDataURL()") == without


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["summary.svg", "crowded.svg", "picture.svg"])
def test_pictures_have_no_text_over_another(chromium: Tab, files: Path, name: str, dark: bool) -> None:
    chromium.complaints.clear()
    chromium.open(files / name, 1280, 900, dark=dark)
    assert chromium.run(OVERLAPS) == []
    assert faint(chromium, dark) == []
    assert chromium.run("document.documentElement.getBoundingClientRect().width") == 960
    assert chromium.complaints == []
