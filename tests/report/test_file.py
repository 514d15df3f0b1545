"""A picture becomes the kind of file its name asks for, or nothing is written and the error says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from report.made_up import HOSTILE, many, measurement

from edgekit.core.errors import InputError, Missing
from edgekit.report import picture, summary
from edgekit.report.file import check, write
from edgekit.report.style import light


def test_svg_is_written_as_it_is(tmp_path: Path) -> None:
    for name in ("a.svg", "b.SVG", "without-suffix"):
        write(tmp_path / name, picture(many(3)))
        assert (tmp_path / name).read_text(encoding="utf-8") == picture(many(3))


def test_another_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written as \.jpg"):
        write(tmp_path / "a.jpg", picture(many(3)))
    assert not list(tmp_path.iterdir())


def test_without_cairosvg_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(Missing) as caught:
        write(tmp_path / "a.png", picture(many(3)))
    assert caught.value.code == 3 and caught.value.next == "pip install 'edgekit-toolkit[pictures]'"
    assert not list(tmp_path.iterdir())


def test_without_the_cairo_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cairosvg.py").write_text("raise OSError('no library called cairo-2 was found')")
    monkeypatch.delitem(sys.modules, "cairosvg", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Missing, match="Cairo library") as caught:
        write(tmp_path / "a.pdf", picture(many(3)))
    assert "apt install libcairo2" in caught.value.next


def test_the_light_colours_need_no_variables() -> None:
    for svg in (picture(many(5), "var(--ink)"), summary(many(5))):
        plain = light(svg)
        style = plain[plain.index("<style>") : plain.index("</style>")]
        assert "var(" not in style and "@media" not in style and "paint-order" not in style
    assert "var(--ink)" in light(picture(many(5), "var(--ink)"))


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_png_and_pdf_hold_the_picture(tmp_path: Path, suffix: str, start: bytes) -> None:
    try:
        check(tmp_path / f"a.{suffix}")
    except Missing as missing:
        pytest.skip(str(missing))
    for index, rows in enumerate([many(5), [], [measurement(HOSTILE, target=HOSTILE)]]):
        path = tmp_path / f"{index}.{suffix}"
        write(path, summary(rows, HOSTILE if index else "t"))
        assert path.read_bytes().startswith(start) and path.stat().st_size > 2000
