"""A picture as a file: SVG as it is, PNG and PDF by CairoSVG.

An SVG follows its reader's light or dark scheme on transparent ground. A PNG or PDF cannot, so it has the light colours
on white ground, which is right on any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError, Missing
from edgekit.core.files import write_atomically
from edgekit.report.style import COLOURS, light

#: Pixels of a PNG per pixel of the SVG, for screens with twice the density.
ZOOM = 2


def write(path: Path, svg: str) -> None:
    """Write a stand-alone SVG in the format that the name asks for; a name without a suffix gets SVG.

    Raises what `check` raises; NoSpace, NoPermission or InputError if it cannot be written.
    """
    renderer = check(path)
    if renderer is None:
        write_atomically(path, svg)
        return
    ground: dict[str, Any] = {"bytestring": light(svg).encode(), "background_color": COLOURS["paper"][0]}
    if path.suffix.lower() == ".pdf":
        write_atomically(path, renderer.svg2pdf(**ground))
    else:
        write_atomically(path, renderer.svg2png(**ground, scale=ZOOM))


def check(path: Path) -> Any:
    """What renders this format: the module `cairosvg`, None for SVG.

    Raises InputError for another format, Missing without CairoSVG or the Cairo library.
    """
    suffix = path.suffix.lower()
    if suffix in ("", ".svg"):
        return None
    if suffix not in (".png", ".pdf"):
        what = f"{path}: pictures cannot be written as {suffix}"
        raise InputError(what, "the formats are .svg, .png and .pdf", f"use {path.with_suffix('.png')}")
    what = f"a {suffix[1:].upper()} file"
    try:
        import cairosvg
    except ImportError as error:
        raise Missing.install(what, "cairosvg", "pictures") from error
    except OSError as error:  # cairocffi does not find the shared library
        install = "apt install libcairo2 (macOS: brew install cairo), or name the file .svg"
        raise Missing(f"{what} needs the Cairo library", "it is not installed", install) from error
    return cairosvg
