"""Draws `docs/floor-plan.svg` from the import contract in pyproject.toml and the first sentence of each package.

python docs/floor_plan.py            # writes the picture
python docs/floor_plan.py --check    # exit code 1 if the picture is not the one that the contract gives
"""

from __future__ import annotations

import ast
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "floor-plan.svg"
CONTRACT = "a room imports only from the floors below it"

WIDTH, MARGIN, GAP = 1060, 20, 12
LINE, PADDING = 17, 12
#: mean width of a character at 13 px, in pixels
CHARACTER = 7.1

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.name { font-weight: 600; font-size: 15px }
.soft { fill: #59636e }
rect { fill: #f6f8fa; stroke: #818b98 }
.apart rect { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .soft { fill: #9198a1 } rect { fill: #151b23; stroke: #656c76 }
}
"""


def floors(pyproject: Path = ROOT / "pyproject.toml") -> tuple[list[list[str]], list[str]]:
    """The rooms by floor, the top one first, and the rooms outside of the order, as the import contract has them."""
    contracts = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["name"] == CONTRACT)
    layers = [[room.strip(" ()") for room in layer.split("|")] for layer in contract["layers"]]
    apart = [name for name in contract.get("exhaustive_ignores", ()) if not name.startswith("_")]
    return layers, apart


def sentence(room: str) -> str:
    """The first sentence of the room's docstring."""
    source = (ROOT / "edgekit" / room / "__init__.py").read_text()
    text = " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())
    head, _, _ = text.partition(". ")
    return head.removesuffix(".").replace("`", "")


def drawing() -> str:
    """The SVG: a band of boxes for each floor. A room imports from the floors below its own only."""
    layers, apart = floors()
    parts: list[str] = []
    top = float(MARGIN)
    for layer in layers:
        boxes, height = _boxes(layer, top)
        parts += boxes
        top += height + GAP
    boxes, height = _boxes(apart, top + GAP)
    parts += [f'<g class="apart">{"".join(boxes)}</g>']
    top += GAP + height + GAP
    note = "A room imports from the floors below its own only, and never from a room on its own floor."
    parts.append(f'<text class="soft" x="{MARGIN}" y="{top + LINE}">{note} Dashed: outside of the order.</text>')
    height = round(top + LINE + MARGIN)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    return "\n".join([head, "<title>The floor plan of edgekit</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _boxes(rooms: list[str], top: float) -> tuple[list[str], float]:
    """The boxes of one floor, side by side, and their height."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
    lines = {room: textwrap.wrap(sentence(room), int((width - 2 * PADDING) / CHARACTER)) for room in rooms}
    height = 2 * PADDING + LINE * (1 + max(map(len, lines.values())))
    boxes = [
        _box(room, lines[room], MARGIN + index * (width + GAP), top, width, height) for index, room in enumerate(rooms)
    ]
    return boxes, height


def _box(room: str, lines: list[str], left: float, top: float, width: float, height: float) -> str:
    def texts() -> Iterator[str]:
        x, y = left + PADDING, top + PADDING + LINE - 4
        yield f'<text class="name" x="{x:.0f}" y="{y:.0f}">{escape(room)}</text>'
        for number, line in enumerate(lines, 1):
            yield f'<text class="soft" x="{x:.0f}" y="{y + LINE * number:.0f}">{escape(line)}</text>'

    size = f'x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6"'
    return f"<g><rect {size}/>{''.join(texts())}</g>"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        current = PICTURE.read_text() if PICTURE.is_file() else ""
        sys.exit(0 if current == drawing() else "docs/floor-plan.svg is out of date: run python docs/floor_plan.py")
    PICTURE.write_text(drawing())
