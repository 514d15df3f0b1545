"""The interactive plot: its points as data for the page's script, and the canvas it is drawn on.

Chart.js (assets/, MIT) draws it: of the well-kept libraries that can show points, intervals of them, logarithmic axes
and tooltips it is the smallest by far (210 kB; Plotly's smallest bundle is 1.1 MB, ECharts' 1 MB), and it needs neither
`eval` nor inline styles, which the page forbids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.report.pareto import COSTS, fronts, unbeaten
from edgekit.report.points import Point, points_of
from edgekit.report.rows import Scope, drawable, kilobytes, memory, metric_text, number, scopes
from edgekit.report.style import UNPRINTABLE, safe

#: what the plot can show a metric against: key, title of the axis, name in the choice
AXES = (
    ("p50", "p50 latency, ms", "p50 latency"),
    ("size", "file, kB", "file size"),
    ("memory", "memory above the runtime’s floor, MB", "memory"),
)
#: precision → the point style of Chart.js that looks like the picture's mark
STYLES = {"circle": "circle", "square": "rect", "diamond": "rectRot", "triangle": "triangle", "hexagon": "star"}
_UNITS = {"p50": 1.0, "size": 1e-3, "memory": 1e-6}


def explore(measurements: Sequence[Measurement]) -> str:
    """The figure; hidden until the page's script has drawn it. "" where there is nothing to draw."""
    found = scopes(measurements)
    if not found:
        return ""
    where = "".join(f'<option value="{i}">{safe(_title(scope, list(found)))}</option>' for i, scope in enumerate(found))
    against = "".join(f'<option value="{key}">{name}</option>' for key, _, name in AXES)
    return (
        '<figure class="plot" hidden><div class="filters">'
        f'<label>device and plan<select id="scope">{where}</select></label>'
        f'<label>against<select id="axis">{against}</select></label></div>'
        '<div class="canvas"><canvas id="chart" tabindex="0" role="application" aria-roledescription="scatter plot" '
        'aria-label="Metric against cost; every point is a row of the table below" '
        'aria-describedby="how"></canvas></div>'
        '<p id="said" role="status" aria-live="polite"></p>'
        '<p id="how" class="soft">Point at a mark, or use the arrow keys, for its figures; Enter goes to its row. The '
        "line joins what nothing beats; area follows file size, whiskers are 95 % intervals. The filters below apply "
        "here too.</p></figure>"
    )


def data(measurements: Sequence[Measurement]) -> str:
    """What the script draws, as JSON that cannot end its element."""
    position = {id(m): i for i, m in enumerate(measurements)}
    found = [_scope(scope, scoped, position) for scope, scoped in scopes(measurements).items()]
    axes = {key: title for key, title, _ in AXES}
    text = json.dumps({"axes": axes, "scopes": found}, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _scope(scope: Scope, scoped: Sequence[Measurement], position: dict[int, int]) -> dict[str, Any]:
    points = points_of(scoped)
    place = {id(p.m): i for i, p in enumerate(points)}
    whole = {id(m) for front in unbeaten(scoped).values() for m in front}
    percent = scope.unit == "fraction"
    better = "↑ better" if scope.higher_is_better else "↓ better"
    unit = "%" if percent else scope.unit
    return {
        "target": _clean(scope.target),
        "y": _clean(f"{', '.join(part for part in (scope.metric, unit) if part)} ({better})"),
        "percent": percent,
        "points": [_point(p, position[id(p.m)], id(p.m) in whole) for p in points],
        "fronts": {
            axis: {
                provenance: [place[id(m)] for m in front if math.isfinite(COSTS[axis](m))]
                for provenance, front in fronts(scoped, axis).items()
            }
            for axis, _, _ in AXES
        },
    }


def _point(p: Point, row: int, on_front: bool) -> dict[str, Any]:
    m = p.m
    costs = {axis: COSTS[axis](m) * _UNITS[axis] for axis, _, _ in AXES}
    low, high = (edge if drawable(edge) else p.latency.p50 for edge in p.latency.ci95)
    ends = [p.y(edge) if drawable(edge) else p.percent for edge in p.metric.ci95]
    used = memory(m)
    said = [
        f"{metric_text(p.metric, p.metric.value)} {p.metric.name}",
        f"p50 {number(p.latency.p50)} ms ({number(low)} to {number(high)})",
        f"{kilobytes(m.size_bytes)} kB",
        *([f"{used / 1e6:.1f} MB of memory"] if used is not None else []),
        f"{m.precision or 'fp32'} in {m.runtime}",
        *([f"invalid: {'; '.join(m.invalid)}"] if m.invalid else []),
        *([m.provenance] if p.estimate else []),
    ]
    return {
        "name": _clean(p.name),
        "artifact": _clean(m.artifact),
        "target": _clean(m.target),
        "runtime": _clean(m.runtime),
        "precision": _clean(m.precision),
        "format": _clean(m.format),
        "colour": p.colour,
        "style": STYLES[p.shape],
        "x": {axis: value if math.isfinite(value) else None for axis, value in costs.items()},
        "xs": [low, high],
        "y": p.percent,
        "ys": ends,
        "bytes": m.size_bytes,
        "invalid": bool(m.invalid),
        "provenance": _clean(m.provenance),
        "front": on_front,
        "row": row,
        "said": [_clean(text) for text in said],
    }


def _title(scope: Scope, every: Sequence[Scope]) -> str:
    """The device, and what sets this scope apart from others on it."""
    same = [other for other in every if other.target == scope.target]
    if len(same) == 1:
        return scope.target
    told = [f"{scope.threads} thread{'s' if scope.threads != 1 else ''}, batch {scope.batch}"]
    told += [scope.cpu] if len({other.cpu for other in same}) > 1 else []
    told += [f"set {scope.set_sha256[:8]}"] if len({other.set_sha256 for other in same}) > 1 else []
    return f"{scope.target}: {', '.join(told)}"


def _clean(text: str) -> str:
    """As `safe` cleans text for HTML, so that the same name is the same in both."""
    return UNPRINTABLE.sub("\ufffd", text)
