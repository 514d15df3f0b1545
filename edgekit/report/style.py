"""Shared by the page and the pictures: light and dark colours, marks per format and precision, escaping."""

from __future__ import annotations

import math
import zlib
from html import escape

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
SHAPES = {"fp32": "circle", "int8": "square", "fp16": "diamond", "dynamic": "triangle", "": "circle"}
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


#: CSS of the pictures, in the page and in stand-alone files.
PICTURE = (
    """
.ek{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;display:block}
.ek text{fill:var(--ink);font-variant-numeric:tabular-nums}
.ek .ek-soft{fill:var(--soft)}
.ek .ek-bold{font-weight:600}
.ek .ek-paper{fill:var(--paper)}
.ek .ek-grid{stroke:var(--line);stroke-width:1;fill:none}
.ek .ek-axis{stroke:var(--front);stroke-width:1;fill:none}
.ek .ek-front{stroke:var(--front);stroke-width:1.5;fill:none;stroke-linejoin:round}
.ek .ek-other{stroke-dasharray:2 4}
.ek .ek-path{stroke:var(--soft);stroke-width:2;stroke-dasharray:1 4;stroke-linecap:round;fill:none}
.ek .ek-lead{stroke:var(--soft);stroke-width:.75;fill:none}
.ek .ek-halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
.ek .ek-mark{stroke-width:1.75;fill-opacity:.2;stroke-linejoin:round}
.ek .ek-plain{fill:var(--soft);stroke:var(--soft);fill-opacity:.12;stroke-width:1.5;stroke-linejoin:round}
.ek .ek-bar{stroke-width:1.25;fill:none;stroke-opacity:.85}
.ek .ek-estimate{stroke-dasharray:1.5 2.5}
.ek .ek-invalid{fill:none;stroke:var(--soft);stroke-dasharray:4 3;stroke-width:1.5}
.ek .ek-bar.ek-invalid{stroke-width:1;stroke-dasharray:none}
"""
    + "\n".join(f".ek .{c}{{fill:var(--{c});stroke:var(--{c})}}" for c in (*FORMATS.values(), *SPARE))
    + "\n.ek .ek-bar{fill:none}\n"
)

#: CSS of the page.
PAGE = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main,body>header{max-width:1240px;margin:0 auto;padding:8px 24px 64px}
body>header{padding:32px 24px 0}
h1{font-size:28px;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:19px;line-height:1.3;margin:40px 0 12px}
h3{font-size:16px;margin:0;overflow-wrap:anywhere}
h4{font-size:14px;margin:10px 0 2px}
a{color:var(--focus)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:2px 18px;padding:0;margin:14px 0 0;font-size:14px}
nav li{margin:0}
.skip{position:absolute;left:-999px}
.skip:focus{left:8px;top:8px;background:var(--paper);padding:6px 10px;z-index:9}
.away{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,360px),1fr));gap:14px}
article{padding:14px 18px;border:1px solid var(--line);border-radius:10px;font-size:15px;min-width:0}
article li{font-size:14px}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 14px;margin:8px 0 0;font-size:14px}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.folds{display:grid;gap:6px}
details{border:1px solid var(--line);border-radius:8px;padding:6px 12px;font-size:14px;min-width:0}
summary{cursor:pointer;overflow-wrap:anywhere}
ol{padding-left:22px}
code{font-size:12px;overflow-wrap:anywhere}
.mark{color:var(--good);margin-right:2px}
.filters{display:none;flex-wrap:wrap;gap:10px 16px;align-items:end;margin:0 0 12px;font-size:14px}
.js .filters{display:flex}
.filters label{display:grid;gap:3px;color:var(--soft);min-width:0}
.filters .check{display:flex;align-items:center;gap:6px;min-height:34px}
.filters input[type=search],.filters select,.filters button{font:inherit;color:var(--ink);background:var(--panel);
border:1px solid var(--line);border-radius:6px;padding:5px 8px;max-width:100%;min-height:34px}
.filters output{color:var(--soft);min-height:34px;line-height:34px}
.canvas{position:relative;height:470px}
.canvas canvas:focus-visible,a:focus-visible,summary:focus-visible,tr:focus-visible,.filters :focus-visible{
outline:2px solid var(--focus);outline-offset:2px}
tbody tr:focus>*{background:var(--panel)}
#details{min-height:1.5em;font-size:14px}
.js .still{display:none}
#sustained .ek,#training .ek{max-width:760px}
[hidden]{display:none!important}
.answers img{display:block;width:64px;height:64px;object-fit:contain;image-rendering:pixelated;background:var(--panel)}
.answers small{font-weight:400}
.matrix .invalid{color:var(--soft);font-weight:400}
.matrix div+div{margin-top:6px;border-top:1px solid var(--line)}
.matrix .invalid small{white-space:normal;min-width:9em}
p{margin:4px 0;overflow-wrap:anywhere}
header p,.soft{color:var(--soft)}
.soft{font-size:14px}
section>.soft{max-width:80ch;margin-top:12px}
ul{margin:0;padding-left:20px}
li{margin:4px 0;overflow-wrap:anywhere}
.good{color:var(--good)}
.bad{color:var(--bad)}
.unsure{color:var(--unsure)}
figure{margin:0 0 20px;padding:16px 20px;border:1px solid var(--line);border-radius:10px}
figure .wide,figure .narrow{margin:14px -8px 8px}
figure .ek{width:100%;height:auto}
figure>p{font-size:14px}
.narrow{display:none}
.scroll{position:relative;width:fit-content;max-width:100%;overflow:auto;
max-height:85vh;border:1px solid var(--line);border-radius:10px}
.scroll:focus-visible,button:focus-visible{outline:2px solid var(--focus);outline-offset:-2px}
table{border-collapse:separate;border-spacing:0;font-size:14px;line-height:1.35;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{padding:8px 10px;text-align:left;vertical-align:top;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead{position:sticky;top:0;z-index:2}
thead th{background:var(--panel);font-weight:600;vertical-align:bottom}
.groups th{border-bottom:0;padding-bottom:0;font-size:12px;color:var(--soft)}
.groups th+th,.first{border-left:1px solid var(--line)}
.groups th:first-child,tr>.first:first-child{border-left:0}
tbody th{position:sticky;left:0;z-index:1;background:var(--paper);font-weight:600}
tbody th>span{display:flex;gap:6px;align-items:flex-start}
tbody th>span>span{white-space:normal;overflow-wrap:anywhere;width:max-content;max-width:290px}
tbody th .ek{flex:none;width:16px;height:16px;margin-top:1px}
.n{text-align:right}
small{display:block;font-size:12px;color:var(--soft)}
.text{white-space:normal;min-width:240px;max-width:320px;overflow-wrap:anywhere}
tr.invalid>*{color:var(--soft)}
tbody tr:hover>*{background:var(--panel)}
thead button{all:unset;cursor:pointer;display:block;width:100%;text-align:inherit;position:relative}
thead button:hover{text-decoration:underline}
thead button::after{position:absolute;margin-left:1px;font-size:9px;line-height:2}
[aria-sort=ascending] button::after{content:"▲"}
[aria-sort=descending] button::after{content:"▼"}
@media (max-width:700px){
main{padding:4px 14px 48px}
body>header{padding:20px 14px 0}
.canvas{height:540px}
.filters label{flex:1 1 130px}
.filters .check{flex:1 1 100%}
.filters input[type=search],.filters select{width:100%}
h1{font-size:24px}
figure{padding:12px 10px}
figure .wide,figure .narrow{margin:12px -4px 4px}
.wide{display:none}
.narrow{display:block}
tbody th>span>span{max-width:132px}
}
@media print{.scroll{max-height:none;overflow:visible}thead,tbody th{position:static}}
"""
