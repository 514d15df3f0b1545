"""Shared by the page and the pictures: light and dark colours, marks per format and precision, escaping."""

from __future__ import annotations

import math
import zlib
from html import escape
from pathlib import Path

#: Variable → (light, dark). Contrast on `paper` and `panel` is at least 4.5:1 for text and 3:1 for marks (tested).
COLOURS = {
    "paper": ("#ffffff", "#0d1117"),
    "panel": ("#f6f8fa", "#161b22"),
    "ink": ("#1c2128", "#e6edf3"),
    "soft": ("#57606a", "#9aa4af"),
    "line": ("#d8dee4", "#30363d"),
    "front": ("#6e7781", "#8b949e"),
    "good": ("#116329", "#56d364"),
    "bad": ("#a40e26", "#ff8a80"),
    "unsure": ("#7d4e00", "#e3b341"),
    "focus": ("#0550ae", "#79c0ff"),
    "f0": ("#bc4c00", "#ffa657"),
    "f1": ("#0a55c4", "#79b8ff"),
    "f2": ("#116f4a", "#4fd6a0"),
    "f3": ("#8031c4", "#cda0ff"),
    "f4": ("#b01e68", "#ff8cc6"),
    "f5": ("#0b6b7f", "#4fd2e6"),
    "f6": ("#7a5b00", "#e8c94b"),
    "f7": ("#5a4635", "#d6b99c"),
}
#: Colours of known formats; other formats share the spare ones.
FORMATS = {"torch": "f0", "onnx": "f1", "tflite": "f2", "openvino": "f3"}
SPARE = ("f4", "f5", "f6", "f7")

#: Precision → shape, so that colour is never the only distinction.
SHAPES = {"fp32": "circle", "int8": "square", "fp16": "diamond", "": "circle"}
SHAPES |= dict.fromkeys(("dynamic", "w8", "w4"), "triangle")
#: Polygons of area π: (corners, circumradius, rotation).
_POLYGONS = {
    "square": (4, math.sqrt(math.pi / 2), math.pi / 4),
    "diamond": (4, math.sqrt(math.pi / 2), 0.0),
    "triangle": (3, math.sqrt(4 * math.pi / math.sqrt(27)), 0.0),
    "hexagon": (6, math.sqrt(2 * math.pi / math.sqrt(27)), 0.0),
}


def clean(text: str) -> str:
    """Text without control characters and bidirectional overrides; its line breaks stay, as HTML folds them."""
    return "".join(c if c.isprintable() or c in "\t\n\r" else "\ufffd" for c in text)


def safe(value: object) -> str:
    """Untrusted text, escaped for an element or a quoted attribute of HTML or XML."""
    return escape(clean(str(value)))


def variables() -> str:
    """The colours as CSS variables for light and dark schemes."""
    light = ";".join(f"--{name}:{pair[0]}" for name, pair in COLOURS.items())
    dark = ";".join(f"--{name}:{pair[1]}" for name, pair in COLOURS.items())
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{color-scheme:light;{light}}}}}\n"
    )


def light(svg: str) -> str:
    """A stand-alone picture in the light colours, for programs that support neither CSS variables nor schemes."""
    plain = PICTURE.replace(HALO, "")
    for name, (colour, _) in COLOURS.items():
        plain = plain.replace(f"var(--{name})", colour)
    return svg.replace(variables() + PICTURE, plain)


def format_class(format: str) -> str:
    """The colour class of a format; an unknown format gets a spare colour by a hash of its name."""
    return FORMATS.get(format) or SPARE[zlib.crc32(format.encode(errors="replace")) % len(SPARE)]


def shape_of(precision: str) -> str:
    return SHAPES.get(precision, "hexagon")


def reach(shape: str) -> float:
    """The extent of a shape from its centre, relative to the circle of equal area."""
    return {"circle": 1.0, "square": math.sqrt(math.pi) / 2}.get(shape) or _POLYGONS[shape][1]


def mark(shape: str, x: float, y: float, radius: float, classes: str) -> str:
    """An SVG shape with the area of a circle of `radius`."""
    if shape == "circle":
        return f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.2f}"/>'
    corners, out, turn = _POLYGONS[shape]
    points = []
    for i in range(corners):
        angle = turn + 2 * math.pi * i / corners
        points.append(f"{x + radius * out * math.sin(angle):.2f},{y - radius * out * math.cos(angle):.2f}")
    return f'<polygon class="{classes}" points="{" ".join(points)}"/>'


#: Keeps text readable on lines, and on a ground that does not follow the reader's scheme.
HALO = ".ek text{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}\n"
#: CSS of the pictures, in the page and in stand-alone files.
PICTURE = (
    """
.ek{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;display:block}
.ek text{fill:var(--ink);font-variant-numeric:tabular-nums}
.ek .ek-soft{fill:var(--soft)}
.ek .ek-bold{font-weight:600}
.ek .ek-good{fill:var(--good)}
.ek .ek-bad{fill:var(--bad)}
.ek .ek-grid{stroke:var(--line);stroke-width:1;fill:none}
.ek .ek-axis{stroke:var(--front);stroke-width:1;fill:none}
.ek .ek-front{stroke:var(--front);stroke-width:1.5;fill:none;stroke-linejoin:round}
.ek .ek-other{stroke-dasharray:2 4}
.ek .ek-path{stroke:var(--soft);stroke-width:2;stroke-dasharray:1 4;stroke-linecap:round;fill:none}
.ek .ek-lead{stroke:var(--soft);stroke-width:.75;fill:none}
.ek .ek-ring{fill:none;stroke:var(--good);stroke-width:2.5}
.ek .ek-mark{stroke-width:1.75;fill-opacity:.2;stroke-linejoin:round}
.ek .ek-plain{fill:var(--soft);stroke:var(--soft);fill-opacity:.12;stroke-width:1.5;stroke-linejoin:round}
.ek .ek-bar{stroke-width:1.25;fill:none;stroke-opacity:.85}
.ek .ek-estimate{stroke-dasharray:1.5 2.5}
.ek .ek-invalid{fill:none;stroke:var(--soft);stroke-dasharray:4 3;stroke-width:1.5}
.ek .ek-bar.ek-invalid{stroke-width:1;stroke-dasharray:none}
"""
    + "\n".join(f".ek .{c}{{fill:var(--{c});stroke:var(--{c})}}" for c in (*FORMATS.values(), *SPARE))
    + f"\n.ek .ek-bar{{fill:none}}\n{HALO}"
)

#: CSS of the page.
PAGE = (Path(__file__).parent / "assets" / "page.css").read_text(encoding="utf-8")
