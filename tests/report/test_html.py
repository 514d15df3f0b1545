"""The page stands alone, holds every measurement, and no name becomes markup; a browser agrees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.made_up import HOSTILE, many, measurement, measurements

from edgekit.report import html
from edgekit.types import Measurement, Parity, Verdict

VOID = {"meta", "link", "br", "img", "hr", "input"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


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


@pytest.mark.parametrize("count", [0, 1, 40])
def test_every_measurement_has_a_row(count: int) -> None:
    shown = many(count)
    text = html(shown, "a title")
    page = Page(text)
    assert page.count("script") == 1 and page.count("h1") == 1
    assert page.count("tr") == (count + 2 if count else 0)
    assert all(m.artifact in page.texts for m in shown)
    assert not re.findall(r"https?://", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_table_is_one_a_reader_can_walk() -> None:
    page = Page(html(many(3), "t"))
    assert page.count("caption") == 1
    scopes = [attrs.get("scope") for tag, attrs in page.tags if tag == "th"]
    assert set(scopes) == {"colgroup", "col", "row"}
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
    assert Page(text).count("script") == 1
    assert "&lt;script&gt;" in text and "\x00" not in text and "\x1b" not in text


def test_a_figure_that_is_missing_is_a_dash() -> None:
    bare = measurement(metric=None, latency_ms=None, load_ms=None, peak_rss_bytes=None, floor_rss_bytes=None, scheme="")
    page = Page(html([bare], "t"))
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
    assert "invalid: throttled" in text and '<tr class="invalid">' in text and "emulated" in text
    assert "Cortex-A76, 4 cores, measured; 5 processes, 1 thread, batch 1" in text


@given(st.lists(measurements, max_size=4), st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_measurements_give_a_page(shown: list[Measurement], title: str) -> None:
    text = html(shown, title)
    text.encode()
    page = Page(text)
    assert page.count("script") == 1
    assert page.count("tr") == (len(shown) + 2 if shown else 0)


def _browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("no chromium to open the page with; install the package chromium")
    pytest.skip("no chromium installed to open the page with")


def _opened(page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """What the browser logged, and its standard output."""
    words = [_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    words += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    words += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *flags, page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr, done.stdout


def _complaints(log: str) -> list[str]:
    """What the page itself caused: console messages, refused or attempted requests."""
    return [line for line in log.splitlines() if "CONSOLE" in line or "Content Security Policy" in line]


@pytest.mark.timeout(240)
def test_a_browser_opens_it_in_light_and_dark_without_a_word(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html([*many(12), measurement(HOSTILE)], "<b>"), encoding="utf-8")
    shots = []
    for scheme in (0, 1):
        shot = tmp_path / f"{scheme}.png"
        flags = [f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}", "--window-size=1280,1600"]
        log, _ = _opened(page, tmp_path / f"profile{scheme}", *flags)
        assert _complaints(log) == []
        shots.append(shot.read_bytes())
    assert all(shot.startswith(b"\x89PNG") and len(shot) > 20_000 for shot in shots)
    assert shots[0] != shots[1], "dark looks like light"


@pytest.mark.timeout(240)
def test_its_script_runs_and_nothing_else_may(tmp_path: Path) -> None:
    """The headings become buttons; a script that slipped in would be refused, and the log would say so."""
    page, broken = tmp_path / "report.html", tmp_path / "broken.html"
    text = html(many(3), "t")
    page.write_text(text, encoding="utf-8")
    log, dom = _opened(page, tmp_path / "a", "--dump-dom")
    assert _complaints(log) == []
    assert dom.count('<button type="button">') == dom.count('scope="col"') > 15
    evil = '<script>document.title = "owned"</script><img src="https://edgekit.invalid/x.png">'
    broken.write_text(text.replace("</main>", evil + "</main>"), encoding="utf-8")
    log, dom = _opened(broken, tmp_path / "b", "--dump-dom")
    assert len(_complaints(log)) >= 2
    assert "<title>t</title>" in dom
