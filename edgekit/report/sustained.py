"""A sustained run as a picture: speed, temperature and clock over time, and where the clock was held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.labels import Box
from edgekit.report.legend import text
from edgekit.report.panels import grid, joined, sheet
from edgekit.report.scales import Scale

WIDTH, LEFT, RIGHT = 720, 76, 20
PANEL, GAP = 96, 30
#: what is drawn, where the device told it: key, in words, unit, colour
ROWS = (
    ("p50_ms", "p50", "ms", "f1"),
    ("temperature_c", "temperature", "°C", "f0"),
    ("frequency_mhz", "clock", "MHz", "f2"),
    ("power_w", "power", "W", "f3"),
)


def picture(sustained: Mapping[str, Any], title: str = "", page: bool = True) -> str:
    """The `<svg>` of facts["sustained"], light or dark as the reader prefers; a quantity never read is left out.

    A file of its own carries its style; without `page` it is part of one that has it.
    """
    rows = [row for row in ROWS if _known(sustained.get(row[0]))]
    top = 44.0 if title and page else 14.0
    parts = [text(LEFT, 24, title, 15, "ek-bold")] if title and page else []
    seconds = [float(value) for value in sustained.get("seconds", ())]
    if len(seconds) < 2 or not rows:
        parts.append(text(LEFT, top + 10, "Nothing to draw: fewer than two windows of time.", 13, "ek-soft"))
        return _page(parts, top + 34, title, sustained, page)
    x = Scale(0.0, max(seconds), LEFT, WIDTH - RIGHT)
    for key, words, unit, colour in rows:
        parts.append(_panel(sustained, seconds, (key, words, unit, colour), x, top))
        top += PANEL + GAP
    for value, label in x.ticks(8):
        parts.append(text(x(value), top - 8, f"{label} s", 12, "ek-soft", "middle"))
    if any(sustained.get("throttled") or ()):
        parts.append(text(LEFT, top + 14, "Shaded: the device held its clock back.", 12, "ek-soft"))
        top += 20
    return _page(parts, top + 10, title, sustained, page)


def summary(sustained: Mapping[str, Any]) -> str:
    """One line: p50 at the start and at the end, the highest temperature, how long it was throttled."""
    times = [float(value) for value in sustained.get("p50_ms", ())]
    if not times:
        return "no sustained run"
    tenth = max(1, len(times) // 10)
    first, last = _middle(times[:tenth]), _middle(times[-tenth:])
    said = [f"p50 {first:.3g} ms at first, {last:.3g} ms at last ({last / first - 1:+.0%})"]
    if degrees := _known(sustained.get("temperature_c")):
        said.append(f"up to {max(degrees):.0f} °C")
    told = [flag for flag in sustained.get("throttled", ()) if flag is not None]
    if told:
        said.append(f"throttled {sum(told) / len(told):.0%} of the time" if any(told) else "never throttled")
    return ", ".join(said)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _known(values: Sequence[float | None] | None) -> list[float]:
    return [float(value) for value in values or () if value is not None]


def _panel(
    sustained: Mapping[str, Any], seconds: Sequence[float], row: tuple[str, str, str, str], x: Scale, top: float
) -> str:
    """One quantity: its band of throttling, three lines of a grid, and the values joined where they follow another."""
    key, words, unit, colour = row
    values = list(sustained[key])
    area = Box(LEFT, top, WIDTH - RIGHT, top + PANEL)
    y = Scale.over(_known(values), area.bottom, area.top, 8, False)
    parts = [_shade(seconds, flag, i, x, area) for i, flag in enumerate(sustained.get("throttled") or ()) if flag]
    parts += grid(y, area, 3)
    parts.append(text(area.left + 4, area.top + 2, f"{words}, {unit}", 12, "ek-soft"))
    pairs = zip(seconds, values, strict=False)
    parts.append(
        joined([(x(second), y(float(value))) if value is not None else None for second, value in pairs], colour)
    )
    return "".join(parts)


def _shade(seconds: Sequence[float], flag: Any, index: int, x: Scale, area: Box) -> str:
    """The window of time around one entry."""
    before = (seconds[index - 1] + seconds[index]) / 2 if index else 0.0
    after = (seconds[index] + seconds[index + 1]) / 2 if index + 1 < len(seconds) else seconds[index]
    left, right = x(before), x(after)
    size = f'width="{max(1.0, right - left):.1f}" height="{area.bottom - area.top:.0f}"'
    return f'<rect x="{left:.1f}" y="{area.top:.0f}" {size} fill="var(--bad)" fill-opacity=".15"/>'


def _page(parts: Sequence[str], height: float, title: str, sustained: Mapping[str, Any], page: bool) -> str:
    return sheet(parts, WIDTH, height, title or "A sustained run", summary(sustained), page)
