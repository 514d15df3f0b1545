"""A picture's legend, and the SVG text element."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.report.labels import text_width
from edgekit.report.points import Point, radii, short
from edgekit.report.style import mark, safe, shape_of

#: Left margin of a panel's texts.
EDGE = 8


def legend(points: Sequence[Point], width: int) -> tuple[str, float]:
    """The legend of colours, shapes, sizes and lines, and its height."""
    items = [
        (mark("circle", 8, 0, 6, f"ek-mark {c}"), 16.0, name)
        for name, c in {p.m.format: p.colour for p in points}.items()
    ]
    shapes = dict.fromkeys(p.m.precision or "fp32" for p in points)
    items += [(mark(shape_of(s), 8, 0, 5.5, "ek-plain"), 16.0, s) for s in shapes]
    size = _reference(points, width)
    if size:
        count, radius = size
        items.append((mark("circle", 12, 0, radius, "ek-plain"), 24.0, f"{count / 1000:g} kB file (area)"))
    for provenance in dict.fromkeys(p.m.provenance for p in points if p.front):
        extra, suffix = ("", "") if provenance == "measured" else (" ek-other", f", {provenance}")
        items.append((f'<path class="ek-front{extra}" d="M0 5V-4H20"/>', 22.0, f"Pareto front{suffix}"))
    if any(p.m.invalid for p in points):
        items.append((mark("circle", 8, 0, 6, "ek-mark ek-invalid"), 16.0, "invalid, not ranked"))
    left, step, parts = float(EDGE), 26.0, []
    x, y = left, 14.0
    for icon, icon_width, caption in items:
        caption = short(caption)
        needed_width = icon_width + 6 + text_width(caption, 12)
        if x + needed_width > width - 8 and x > left:
            x, y = left, y + step
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{icon}</g>')
        parts.append(text(x + icon_width + 5, y + 4, caption, 12, "ek-soft"))
        x += needed_width + 16
    return "".join(parts), y + 14


def _reference(points: Sequence[Point], width: int) -> tuple[int, float] | None:
    """A round file size whose bubble fits into the legend, and its radius."""
    if not points:
        return None
    largest, largest_radius = max((p.m.size_bytes, r) for p, r in zip(points, radii(points, width >= 600), strict=True))
    best_count = 0
    for power in range(3, 16):
        for mantissa in (1, 2, 5):
            count = mantissa * 10**power
            if largest and count <= largest and largest_radius * math.sqrt(count / largest) <= 11:
                best_count = count
    return (best_count, largest_radius * math.sqrt(best_count / largest)) if best_count else None


def text(x: float, y: float, text: str, size: float, classes: str, anchor: str = "start") -> str:
    return (
        f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}">'
        f"{safe(text)}</text>"
    )
