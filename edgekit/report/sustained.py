"""A sustained run as SVG: latency, temperature, clock and power over time, and phases of throttling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.labels import Box
from edgekit.report.legend import text
from edgekit.report.panels import grid, joined, sheet
from edgekit.report.scales import Scale

WIDTH, LEFT, RIGHT = 720, 76, 20
PANEL, GAP = 96, 30
#: quantities that are drawn if available: key, label, unit, colour
ROWS = (
    ("p50_ms", "p50", "ms", "f1"),
    ("temperature_c", "temperature", "°C", "f0"),
    ("frequency_mhz", "clock", "MHz", "f2"),
    ("power_w", "power", "W", "f3"),
)


def picture(sustained: Mapping[str, Any], title: str = "", page: bool = True) -> str:
    """The `<svg>` of facts["sustained"], in the reader's light or dark scheme.

    With `page` it is a stand-alone file with its style; without, it is part of a page that has the style.
    """
    rows = [row for row in ROWS if _present(sustained.get(row[0]))]
    top = 44.0 if title and page else 14.0
    parts = [text(LEFT, 24, title, 15, "ek-bold")] if title and page else []
    seconds = [float(value) for value in sustained.get("seconds", ())]
    if len(seconds) < 2 or not rows:
        parts.append(text(LEFT, top + 10, "No data: fewer than two time windows.", 13, "ek-soft"))
        return _page(parts, top + 34, title, sustained, page)
    x = Scale(0.0, max(seconds), LEFT, WIDTH - RIGHT)
    for key, label, unit, colour in rows:
        parts.append(_panel(sustained, seconds, (key, label, unit, colour), x, top))
        top += PANEL + GAP
    for value, label in x.ticks(8):
        parts.append(text(x(value), top - 8, f"{label} s", 12, "ek-soft", "middle"))
    if any(sustained.get("throttled") or ()):
        parts.append(text(LEFT, top + 14, "Shaded: the device was throttled.", 12, "ek-soft"))
        top += 20
    return _page(parts, top + 10, title, sustained, page)


def summary(sustained: Mapping[str, Any]) -> str:
    """One line: p50 at the start and at the end, the highest temperature, and the share of throttled time."""
    times = [float(value) for value in sustained.get("p50_ms", ())]
    if not times:
        return "no sustained run"
    tenth = max(1, len(times) // 10)
    first, last = _middle(times[:tenth]), _middle(times[-tenth:])
    parts = [f"p50 {first:.3g} ms at the start, {last:.3g} ms at the end ({last / first - 1:+.0%})"]
    if temperatures := _present(sustained.get("temperature_c")):
        parts.append(f"up to {max(temperatures):.0f} °C")
    flags = [flag for flag in sustained.get("throttled", ()) if flag is not None]
    if flags:
        parts.append(f"throttled {sum(flags) / len(flags):.0%} of the time" if any(flags) else "never throttled")
    return ", ".join(parts)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _present(values: Sequence[float | None] | None) -> list[float]:
    return [float(value) for value in values or () if value is not None]


def _panel(
    sustained: Mapping[str, Any], seconds: Sequence[float], row: tuple[str, str, str, str], x: Scale, top: float
) -> str:
    """One quantity: shaded throttling, the grid, and the line; missing values leave gaps."""
    key, label, unit, colour = row
    values = list(sustained[key])
    area = Box(LEFT, top, WIDTH - RIGHT, top + PANEL)
    y = Scale.over(_present(values), area.bottom, area.top, 8, False)
    parts = [_shade(seconds, flag, i, x, area) for i, flag in enumerate(sustained.get("throttled") or ()) if flag]
    parts += grid(y, area, 3)
    parts.append(text(area.left + 4, area.top + 2, f"{label}, {unit}", 12, "ek-soft"))
    pairs = zip(seconds, values, strict=False)
    parts.append(
        joined([(x(second), y(float(value))) if value is not None else None for second, value in pairs], colour)
    )
    return "".join(parts)


def _shade(seconds: Sequence[float], flag: Any, index: int, x: Scale, area: Box) -> str:
    """The time window of one entry."""
    before = (seconds[index - 1] + seconds[index]) / 2 if index else 0.0
    after = (seconds[index] + seconds[index + 1]) / 2 if index + 1 < len(seconds) else seconds[index]
    left, right = x(before), x(after)
    size = f'width="{max(1.0, right - left):.1f}" height="{area.bottom - area.top:.0f}"'
    return f'<rect x="{left:.1f}" y="{area.top:.0f}" {size} fill="var(--bad)" fill-opacity=".15"/>'


def _page(parts: Sequence[str], height: float, title: str, sustained: Mapping[str, Any], page: bool) -> str:
    return sheet(parts, WIDTH, height, title or "A sustained run", summary(sustained), page)
