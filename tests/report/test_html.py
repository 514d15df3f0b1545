"""The page stands alone, holds every measurement, and no name becomes markup; a browser agrees."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import Tab, browser
from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, STEERING, many, measurement, measurements

from edgekit.core.measurement import Measurement, Parity, Verdict
from edgekit.report import html
from edgekit.report.html import ASSETS, LIBRARY

VOID = {"meta", "link", "br", "img", "hr", "input"}
#: the plotting library, the page's own script, and its points, which are data
SCRIPTS = 3
DEVICES = ("host", "raspberry-pi-4", "raspberry-pi-5", "pixel-8", "jetson")
SUSTAINED = {"seconds": [10, 20, 30], "p50_ms": [1.0, 1.1, 1.3], "temperature_c": [50, 60, 70], "throttled": [0, 0, 1]}


class Page(HTMLParser):
    """Fails where tags do not close in order; collects texts, cells and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


def _rows(text: str) -> int:
    return len(re.findall(r'<tr id="row-', text))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_every_measurement_has_a_row(count: int) -> None:
    shown = many(count)
    text = html(shown, "a title")
    page = Page(text)
    assert page.count("h1") == 1 and page.count("script") == (SCRIPTS if count else 1)
    assert _rows(text) == count
    assert all(m.artifact in page.texts for m in shown)
    library = (ASSETS / LIBRARY).read_text(encoding="utf-8").partition("\n//# sourceMappingURL")[0]
    own = text.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(library, "")
    assert not re.findall(r"https?://", own)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_table_is_one_a_reader_can_walk() -> None:
    page = Page(html(many(3), "t"))
    assert page.count("caption") == page.count("table")
    scopes = [attrs.get("scope") for tag, attrs in page.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    region = next(attrs for tag, attrs in page.tags if attrs.get("class") == "scroll")
    assert region["tabindex"] == "0" and region["role"] == "region"


def test_names_cannot_become_markup() -> None:
    hostile = measurement(
        HOSTILE,
        target=HOSTILE,
        runtime=HOSTILE,
        scheme=HOSTILE,
        format=HOSTILE,
        precision=HOSTILE,
        facts={"cpu": HOSTILE},
        invalid=(HOSTILE,),
        verdict=Verdict("undecided", 0.5, HOSTILE, 12_345),
        parity=Parity(HOSTILE, 40.0, 0.1, None),
    )
    text = html([hostile, measurement()], HOSTILE)
    assert Page(text).count("script") == SCRIPTS
    assert "&lt;script&gt;" in text and not STEERING.search(text)


def test_a_figure_that_is_missing_is_a_dash() -> None:
    bare = measurement(metric=None, latency_ms=None, load_ms=None, peak_rss_bytes=None, floor_rss_bytes=None, scheme="")
    page = Page(html([bare, dataclasses.replace(bare, load_ms=5.0)], "t"))
    assert "-" in page.texts and page.count("figure") == 0


def test_what_must_be_known_is_said() -> None:
    parent = measurement("onnx", p50=1.0)
    slow = measurement(
        "onnx-int8", p50=2.0, precision="int8", parents=("onnx",), verdict=Verdict("undecided", 0.5, "val", 23_400)
    )
    broken = measurement("ds.onnx", invalid=("throttled",), provenance="emulated")
    text = html([parent, slow, broken], "t")
    assert '<strong class="bad">2.00 times slower</strong>' in text
    assert "about 23,400 samples would decide 0.5 pp" in text
    assert "invalid: throttled" in text and re.search(r'<tr [^>]*class="invalid"', text) and "emulated" in text
    assert "Cortex-A76, 4 cores, measured; 5 processes, 1 thread, batch 1" in text


@given(st.lists(measurements, max_size=4), st.text(max_size=20))
@settings(max_examples=25, deadline=None)
def test_any_measurements_give_a_page(shown: list[Measurement], title: str) -> None:
    text = html(shown, title)
    text.encode()
    page = Page(text)
    assert page.count("script") in (1, SCRIPTS)
    assert _rows(text) == len(shown)


def fleet() -> list[Measurement]:
    """20 models on 5 devices, one of them under a long load."""
    found = [dataclasses.replace(m, target=target) for target in DEVICES for m in many(20)]
    return [dataclasses.replace(found[0], facts={**found[0].facts, "sustained": SUSTAINED}), *found[1:]]


def shown_rows(tab: Tab) -> list[str]:
    """The names in the table, in the order they stand in."""
    found: list[str] = tab.run(
        "[...document.querySelectorAll('.rows tbody tr')].filter(r => !r.hidden).map(r => r.dataset.name)"
    )
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "report.html"
    made.write_text(html(fleet(), "20 models on 5 devices"), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as tab:
        yield tab


@pytest.fixture
def tab(chromium: Tab, page: Path) -> Tab:
    chromium.open(page)
    chromium.complaints.clear()
    return chromium


def test_twenty_models_on_five_devices_are_a_small_page_that_asks_for_nothing(chromium: Tab, page: Path) -> None:
    chromium.requests.clear()
    chromium.complaints.clear()
    for dark in (False, True):
        chromium.open(page, dark=dark)
    assert set(chromium.requests) == {page.as_uri()}
    assert chromium.complaints == []
    assert page.stat().st_size < 5_000_000
    assert len(shown_rows(chromium)) == 100


@pytest.mark.slow
@pytest.mark.alone
def test_it_opens_in_two_seconds(chromium: Tab, page: Path) -> None:
    took = []
    for _ in range(3):
        chromium.open(page)
        took.append(chromium.run("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert min(took) < 2000, took


def test_headings_sort_the_table(tab: Tab) -> None:
    def values() -> list[float]:
        found: list[float] = tab.run(
            f"[...document.querySelectorAll('.rows tbody tr')].map(r => +r.cells[{column}].dataset.sort)"
        )
        return found

    column = tab.run("[...document.querySelectorAll('.titles th')].findIndex(h => h.textContent === 'p50, ms')")
    head = f".titles th:nth-child({column + 1})"
    tab.click(f"{head} button")
    assert values() == sorted(values()) and tab.run(f"document.querySelector('{head}').ariaSort") == "ascending"
    tab.run(f"document.querySelector('{head} button').focus()")
    tab.key("Enter", 13)
    assert values() == sorted(values(), reverse=True)
    assert tab.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert tab.complaints == []


def test_filters_hide_rows_and_points(tab: Tab) -> None:
    everything = tab.run("order.length")
    tab.click("[name=name]")
    tab.type("INT8")
    found = shown_rows(tab)
    assert len(found) == 20 and all("int8" in name for name in found)
    assert tab.run("document.querySelector('#all output').textContent") == "20 of 100 shown"
    assert 0 < tab.run("order.length") < everything
    tab.run("form.elements.target.value = 'pixel-8'")
    tab.run("form.elements.target.dispatchEvent(new Event('input', {bubbles: true}))")
    assert len(shown_rows(tab)) == 4 and tab.run("scope.selectedOptions[0].textContent") == "pixel-8"
    tab.click("[name=valid]")
    assert len(shown_rows(tab)) == 3
    tab.click(".filters [type=reset]")
    tab.run("new Promise(requestAnimationFrame)")
    assert len(shown_rows(tab)) == 100 and tab.run("order.length") == everything
    assert tab.complaints == []


def test_a_mark_says_what_it_is_to_mouse_and_keyboard(tab: Tab) -> None:
    """The tooltip of Chart.js shows it, and a live region says it."""
    place = tab.run(
        "canvas.scrollIntoView({block: 'center'}), (r => [r.x, r.y])(canvas.getBoundingClientRect())"
        ".concat((e => [e.x, e.y, e.$context.raw.p.name])(chart.getDatasetMeta(0).data[0]))"
    )
    tab.move(place[0] + place[2], place[1] + place[3])
    tab.run("new Promise(requestAnimationFrame)")
    assert tab.run("chart.tooltip.opacity") == 1 and tab.run("chart.tooltip.title") == [place[4]]
    assert tab.run("details.textContent").startswith(f"{place[4]}: 88.00% accuracy, p50 1.00 ms (0.990 to 1.01)")
    tab.run("canvas.focus()")
    tab.key("Home", 36)
    first = tab.run("details.textContent")
    tab.key("ArrowRight", 39)
    assert first.startswith(tab.run("order[0].name")) and tab.run("details.textContent").startswith(
        tab.run("order[1].name")
    )
    assert tab.run("chart.tooltip.title") == [tab.run("order[1].name")]
    tab.key("Enter", 13)
    assert tab.run("document.activeElement.dataset.name") == tab.run("order[1].artifact")
    for axis in ("size", "memory"):
        tab.run(f"axis.value = '{axis}', axis.dispatchEvent(new Event('input'))")
        assert tab.run("chart.options.scales.x.title.text").startswith({"size": "file, kB", "memory": "memory"}[axis])
    assert tab.complaints == []


def test_a_phone_scrolls_tables_and_not_the_page(chromium: Tab, page: Path) -> None:
    chromium.open(page, 360, 740, phone=True)
    assert chromium.run("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    assert chromium.run("canvas.clientWidth") > 250


def test_a_screen_reader_finds_names_for_all_that_can_be_used(tab: Tab) -> None:
    """Chromium's own accessibility tree: no nameless control, one main part, a heading over every part."""
    nodes = [node for node in tab.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node]
    controls = ("button", "combobox", "checkbox", "searchbox", "application", "link", "region", "table", "image")
    assert not [role for role, name in told if role in controls and not name]
    roles = [role for role, _ in told]
    assert roles.count("main") == 1 and roles.count("navigation") == 1
    assert ("application", "Metric by cost; each point is a row of the table below") in told
    assert {name for role, name in told if role == "searchbox"} == {"name contains"}


def test_light_and_dark_differ_and_nothing_is_blank(chromium: Tab, page: Path, tmp_path: Path) -> None:
    shots = []
    for dark in (False, True):
        chromium.open(page, dark=dark)
        shots.append(chromium.picture(tmp_path / f"{dark}.png", whole=False).read_bytes())
    assert all(len(shot) > 20_000 for shot in shots) and shots[0] != shots[1]
    inked = "[...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].some(Boolean)"
    assert chromium.run(inked)


def test_nothing_else_may_run(chromium: Tab, tmp_path: Path) -> None:
    """A script or a picture that slipped in would be refused, and the log would say so."""
    broken = tmp_path / "broken.html"
    evil = '<script>document.title = "owned"</script><img src="https://edgekit.invalid/x.png">'
    text = html([*many(3), measurement(HOSTILE, target=HOSTILE)], "t")
    broken.write_text(text.replace("</main>", evil + "</main>"), encoding="utf-8")
    chromium.complaints.clear()
    chromium.open(broken)
    assert len(chromium.complaints) >= 2 and all("Content Security Policy" in said for said in chromium.complaints)
    assert chromium.run("document.title") == "t"
    assert HOSTILE.partition("\n")[0] in json.dumps(chromium.run("data.scopes.map(s => s.target)")).replace('\\"', '"')
    chromium.complaints.clear()


def test_without_its_script_the_page_reads_the_same(chromium: Tab, page: Path) -> None:
    chromium.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(page)
        chromium.send("Emulation.setScriptExecutionDisabled", value=False)
        assert chromium.run("getComputedStyle(document.querySelector('.still')).display") == "block"
        assert chromium.run("getComputedStyle(document.querySelector('form.filters')).display") == "none"
        assert chromium.run("document.querySelector('.plot').hidden")
    finally:
        chromium.send("Emulation.setScriptExecutionDisabled", value=False)
