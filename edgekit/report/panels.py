"""What pictures of values over time share: the sheet, the grid of a panel, a line with gaps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgekit.report.labels import Box
from edgekit.report.legend import text
from edgekit.report.scales import Scale
from edgekit.report.style import PICTURE, safe, variables


def sheet(parts: Sequence[str], width: int, height: float, title: str, description: str, styled: bool = True) -> str:
    """The `<svg>`; `styled`: it brings its own style, as a file of its own must."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ek" role="img" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}"><title>{safe(title)}</title><desc>{safe(description)}</desc>'
        f"{f'<style>{variables()}{PICTURE}</style>' if styled else ''}"
        f"{''.join(parts)}</svg>\n"
    )


def grid(y: Scale, area: Box, count: int) -> Iterable[str]:
    """Lines across a panel, each with its value; about `count` of them."""
    for value, label in y.ticks(count):
        yield f'<path class="ek-grid" d="M{area.left:.0f} {y(value):.1f}H{area.right:.0f}"/>'
        yield text(area.left - 6, y(value) + 4, label, 12, "ek-soft", "end")


def joined(points: Iterable[tuple[float, float] | None], colour: str) -> str:
    """A line through points in pixels; None leaves a gap."""
    path, drawing = [], False
    for point in points:
        if point:
            path.append(f"{'L' if drawing else 'M'}{point[0]:.1f} {point[1]:.1f}")
        drawing = point is not None
    return f'<path class="ek-bar {colour}" d="{"".join(path)}"/>'
