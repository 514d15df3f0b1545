"""Measurements → accuracy, latency and size as one self-contained SVG panel per target.

It needs no plotting library, and the same code draws the page's wide and narrow versions and the file for a README.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.advice import recommended
from edgekit.report.labels import Anchor, Box, Label, place, text_width
from edgekit.report.legend import EDGE, legend, text
from edgekit.report.pareto import fronts
from edgekit.report.points import Point, points_of, radii, short
from edgekit.report.rows import Scope, drawable, scopes
from edgekit.report.scales import Scale, spans_decade
from edgekit.report.style import PICTURE, mark, reach, safe, variables

WIDE, NARROW = 960, 360
#: Margin around the panels of a stand-alone file.
MARGIN = 16
#: Text size and line height of labels, in pixels.
TEXT, LINE = 13.0, 18.0
#: Pixels between the recommended bubble and its ring.
RING = 4.0
NOTHING_DRAWN = "no artifact has both a metric and a latency."


def picture(measurements: Sequence[Measurement], title: str = "") -> str:
    """A stand-alone file: panels below each other, on transparent ground, in the reader's light or dark scheme."""
    chosen = recommended(measurements)
    panels = [panel(scope, scoped, WIDE - 2 * MARGIN, chosen=chosen) for scope, scoped in scopes(measurements).items()]
    parts, y = [], 24.0
    if title:
        parts.append(text(MARGIN + EDGE, y + 14, title, 18, "ek-bold"))
        y += 30
    for (scope, _), (svg, height) in zip(scopes(measurements).items(), panels, strict=True):
        parts.append(text(MARGIN + EDGE, y + 14, scope.target, 15, "ek-bold"))
        parts.append(text(MARGIN + EDGE, y + 34, str(scope), 12, "ek-soft"))
        parts.append(f'<g transform="translate({MARGIN} {y + 46:.0f})">{svg}</g>')
        y += 46 + height + 24
    if not panels:
        parts.append(text(MARGIN + EDGE, y + 14, f"No data: {NOTHING_DRAWN}", 14, "ek-soft"))
        y += 40
    name = title or "Accuracy, latency and size"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ek" role="img" aria-labelledby="ek-title ek-desc" '
        f'viewBox="0 0 {WIDE} {y:.0f}" width="{WIDE}" height="{y:.0f}">'
        f'<title id="ek-title">{safe(name)}</title><desc id="ek-desc">{safe(describe(measurements))}</desc>'
        f"<style>{variables()}{PICTURE}</style>"
        f"{''.join(parts)}</svg>\n"
    )


def describe(measurements: Sequence[Measurement]) -> str:
    """All drawn points as sentences."""
    sentences = [f"{scope.target}: {p.sentence}." for scope, ms in scopes(measurements).items() for p in points_of(ms)]
    return " ".join(sentences) or f"No data: {NOTHING_DRAWN}"


def inline(
    scope: Scope,
    measurements: Sequence[Measurement],
    width: int,
    name: str,
    paths: Sequence[Sequence[Measurement]] = (),
    chosen: frozenset[int] = frozenset(),
) -> str:
    """One panel as an `<svg>` for a page that has the style; `paths` connect some of its points."""
    svg, height = panel(scope, measurements, width, paths, chosen)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ek" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="0 0 {width} {height:.0f}"><title id="{name}-title">'
        f"{safe(f'{scope.metric}, latency and size on {scope.target}')}</title>"
        f'<desc id="{name}-desc">{safe(describe(measurements))}</desc>{svg}</svg>'
    )


def panel(
    scope: Scope,
    measurements: Sequence[Measurement],
    width: int,
    paths: Sequence[Sequence[Measurement]] = (),
    chosen: frozenset[int] = frozenset(),
) -> tuple[str, float]:
    """The elements of one panel, and its height; `chosen` is what `advice.recommended` gives."""
    points = points_of(measurements, chosen)
    is_wide = width >= 600
    legend_svg, top = legend(points, width)
    top += 30
    plot_height = (430.0 if is_wide else 330.0) + (6.0 if is_wide else 12.0) * max(0, len(points) - 12)
    area = Box(64.0 if is_wide else 46.0, top, width - (24.0 if is_wide else 10.0), top + plot_height)
    sizes = radii(points, is_wide)
    pad = max(r * reach(p.shape) for r, p in zip(sizes, points, strict=True)) + 8
    x, y = _scales(points, area, pad)
    anchors = [
        Anchor(
            x(p.latency.p50),
            y(p.percent),
            r * reach(p.shape),
            text_width(p.label, TEXT, p.front or p.recommended),
            LINE - 4,
            2 * p.recommended + p.front,
        )
        for r, p in zip(sizes, points, strict=True)
    ]
    steps = [
        (provenance, _front_corners(front, x, y, area))
        for provenance, front in fronts([p.m for p in points]).items()
        if front
    ]
    lines = [box for _, corners in steps for box in _segments(corners)]
    labels = place(anchors, area, lines)
    parts = [legend_svg, *_axes(scope, x, y, area, is_wide)]
    parts += [_front(provenance, corners) for provenance, corners in steps]
    positions = {id(p.m): (anchor.x, anchor.y) for p, anchor in zip(points, anchors, strict=True)}
    parts += [_path([positions[id(m)] for m in path if id(m) in positions]) for path in paths]
    order = sorted(range(len(points)), key=lambda i: (not points[i].m.invalid, -sizes[i]))
    for i in order:
        parts.append(_bubble(points[i], anchors[i], sizes[i]))
    parts += [_label(p, label) for p, label in zip(points, labels, strict=True) if label]
    bottom = area.bottom + 50
    unlabelled = [p.label for p, label in zip(points, labels, strict=True) if not label]
    for line in _wrapped("No room to label: ", unlabelled, width - area.left - 10):
        parts.append(text(area.left, bottom + 12, line, 12, "ek-soft"))
        bottom += LINE
    return "".join(parts), bottom


def _scales(points: Sequence[Point], area: Box, pad: float) -> tuple[Scale, Scale]:
    """They hold the 95 % intervals, which are not drawn: differences within the noise look as small as they are."""
    p50s = [p.latency.p50 for p in points]
    log = spans_decade(p50s)
    edges = [edge for p in points for edge in p.latency.ci95 if drawable(edge) and (edge > 0 or not log)]
    if log:
        edges = [edge for edge in edges if edge >= min(p50s) / 10]
    values = [p.percent for p in points]
    ends = [p.y(edge) for p in points for edge in p.metric.ci95 if drawable(edge)]
    x = Scale.over([*p50s, *edges], area.left, area.right, pad, log)
    return x, Scale.over([*values, *ends], area.bottom, area.top, pad, False)


def _bubble(p: Point, anchor: Anchor, radius: float) -> str:
    colour = "ek-invalid" if p.m.invalid else p.colour
    estimate = " ek-estimate" if p.estimate else ""
    shape = mark(p.shape, anchor.x, anchor.y, radius, f"ek-mark {colour}{estimate}")
    ring = mark("circle", anchor.x, anchor.y, anchor.radius + RING, "ek-ring") if p.recommended else ""
    return f"<g><title>{safe(p.sentence)}</title>{ring}{shape}</g>"


def _label(p: Point, label: Label) -> str:
    box = label.box
    line = ""
    if label.leader:
        x0, y0, x1, y1 = label.leader
        line = f'<path class="ek-lead" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>'
    middle = (box.left + box.right) / 2
    classes = "ek-good ek-bold" if p.recommended else "ek-soft" if p.m.invalid else "ek-bold" if p.front else ""
    return line + text(middle, box.bottom - 3, p.label, TEXT, classes, "middle")


def _front_corners(front: Sequence[Measurement], x: Scale, y: Scale, area: Box) -> list[tuple[float, float]]:
    """The corners of the Pareto front's staircase."""
    corners: list[tuple[float, float]] = []
    for m in front:
        assert m.metric and m.latency_ms
        position = x(m.latency_ms.p50), y(m.metric.value * (100 if m.metric.unit == "fraction" else 1))
        if corners:
            corners.append((position[0], corners[-1][1]))
        corners.append(position)
    return [*corners, (area.right, corners[-1][1])]


def _segments(corners: Sequence[tuple[float, float]]) -> Iterator[Box]:
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        yield Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _front(provenance: str, corners: Sequence[tuple[float, float]]) -> str:
    classes = "ek-front" if provenance == "measured" else "ek-front ek-other"
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    return f'<path class="{classes}" d="M{path}"><title>Pareto front ({safe(provenance)})</title></path>'


def _path(corners: Sequence[tuple[float, float]]) -> str:
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    return f'<path class="ek-path" d="M{line}"/>' if len(corners) > 1 else ""


def _axes(scope: Scope, x: Scale, y: Scale, area: Box, is_wide: bool) -> Iterator[str]:
    """Grid, ticks and axis titles, with the better direction."""
    percent = scope.unit == "fraction"
    for value, label in y.ticks(6 if is_wide else 5):
        if percent and not 0 <= value <= 100:
            continue
        position = y(value)
        yield f'<path class="ek-grid" d="M{area.left:.1f} {position:.1f}H{area.right:.1f}"/>'
        yield text(area.left - 8, position + 4, label, 12, "ek-soft", "end")
    for value, label in x.ticks(8 if is_wide else 4):
        position = x(value)
        yield f'<path class="ek-grid" d="M{position:.1f} {area.top:.1f}V{area.bottom:.1f}"/>'
        yield text(position, area.bottom + 18, label, 12, "ek-soft", "middle")
    yield f'<path class="ek-axis" d="M{area.left:.1f} {area.bottom:.1f}H{area.right:.1f}"/>'
    unit = "%" if percent else scope.unit
    better = "higher is better" if scope.higher_is_better else "lower is better"
    name = ", ".join(part for part in (short(scope.metric), short(unit)) if part)
    yield text(EDGE, area.top - 12, f"{name} ({better})", 12, "ek-bold")
    scale = "ms, log scale" if x.log else "ms"
    yield text(area.right, area.bottom + 38, f"p50 latency, {scale} (left is faster)", 12, "ek-bold", "end")


def _wrapped(start: str, names: Sequence[str], width: float) -> Iterator[str]:
    """A list of names in lines no wider than `width`."""
    line = start
    for i, name in enumerate(names):
        piece = name + (", " if i + 1 < len(names) else "")
        if text_width(line + piece, 12) > width and line.strip():
            yield line.rstrip()
            line = ""
        line += piece
    if names:
        yield line
