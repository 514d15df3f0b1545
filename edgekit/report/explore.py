"""The interactive plot: its data for the page's script, and its canvas.

Chart.js (assets/, MIT) draws it: it is by far the smallest maintained library with points, error bars, logarithmic axes
and tooltips (210 kB; Plotly's smallest bundle is 1.1 MB, ECharts' 1 MB), and it needs neither `eval` nor inline styles,
which the page forbids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from edgekit.core.measurement import Measurement, plan_text
from edgekit.report.advice import recommended
from edgekit.report.pareto import COSTS, fronts, unbeaten
from edgekit.report.points import Point, points_of
from edgekit.report.rows import Scope, drawable, kilobytes, memory, metric_text, number, scopes
from edgekit.report.style import clean, safe

#: choices for the x axis: key, axis title, name in the menu
AXES = (
    ("p50", "p50 latency, ms", "p50 latency"),
    ("size", "file, kB", "file size"),
    ("memory", "memory above the runtime’s baseline, MB", "memory"),
)
#: shape of the static picture → the matching point style of Chart.js
STYLES = {"circle": "circle", "square": "rect", "diamond": "rectRot", "triangle": "triangle", "hexagon": "star"}
_UNITS = {"p50": 1.0, "size": 1e-3, "memory": 1e-6}


def explore(measurements: Sequence[Measurement]) -> str:
    """The figure, hidden until the page's script has drawn it; "" without data."""
    scoped = scopes(measurements)
    if not scoped:
        return ""
    where = "".join(
        f'<option value="{i}">{safe(_title(scope, list(scoped)))}</option>' for i, scope in enumerate(scoped)
    )
    against = "".join(f'<option value="{key}">{name}</option>' for key, _, name in AXES)
    return (
        '<figure class="plot" hidden><div class="filters">'
        f'<label{" hidden" * (len(scoped) == 1)}>device and plan<select id="scope">{where}</select></label>'
        f'<label>against<select id="axis">{against}</select></label>'
        '<label class="check"><input type="checkbox" id="intervals">95 % intervals</label></div>'
        '<div class="canvas"><canvas id="chart" tabindex="0" role="application" aria-roledescription="scatter plot" '
        'aria-label="Metric by cost; each point is a row of the table below" '
        'aria-describedby="how"></canvas></div>'
        '<p id="details" role="status" aria-live="polite"></p>'
        '<p id="how" class="soft">Point at a mark, or use the cursor keys, for its figures; Enter opens its row. The '
        "line is the Pareto front, the ring the recommended artifact; area is proportional to file size. The filters "
        "below apply here too.</p></figure>"
    )


def data(measurements: Sequence[Measurement]) -> str:
    """The script's data, as JSON that cannot close its element."""
    position = {id(m): i for i, m in enumerate(measurements)}
    chosen = recommended(measurements)
    panels = [_scope(scope, scoped, position, chosen) for scope, scoped in scopes(measurements).items()]
    axes = {key: title for key, title, _ in AXES}
    text = json.dumps({"axes": axes, "scopes": panels}, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _scope(
    scope: Scope, scoped: Sequence[Measurement], position: dict[int, int], chosen: frozenset[int]
) -> dict[str, Any]:
    points = points_of(scoped, chosen)
    index_of = {id(p.m): i for i, p in enumerate(points)}
    unbeaten_ids = {id(m) for front in unbeaten(scoped).values() for m in front}
    percent = scope.unit == "fraction"
    better = "↑ better" if scope.higher_is_better else "↓ better"
    unit = "%" if percent else scope.unit
    return {
        "target": clean(scope.target),
        "y": clean(f"{', '.join(part for part in (scope.metric, unit) if part)} ({better})"),
        "percent": percent,
        "points": [_point(p, position[id(p.m)], id(p.m) in unbeaten_ids) for p in points],
        "fronts": {
            axis: {
                provenance: [index_of[id(m)] for m in front if math.isfinite(COSTS[axis](m))]
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
    figures = [
        f"{metric_text(p.metric, p.metric.value)} {p.metric.name}",
        f"p50 {number(p.latency.p50)} ms ({number(low)} to {number(high)})",
        f"{kilobytes(m.size_bytes)} kB",
        *([f"{used / 1e6:.1f} MB of memory"] if used is not None else []),
        f"{m.precision or 'fp32'} in {m.runtime}",
        *([f"invalid: {'; '.join(m.invalid)}"] if m.invalid else []),
        *([m.provenance] if p.estimate else []),
    ]
    return {
        "name": clean(p.name),
        "artifact": clean(m.artifact),
        "target": clean(m.target),
        "runtime": clean(m.runtime),
        "precision": clean(m.precision),
        "format": clean(m.format),
        "colour": p.colour,
        "style": STYLES[p.shape],
        "x": {axis: value if math.isfinite(value) else None for axis, value in costs.items()},
        "xs": [low, high],
        "y": p.percent,
        "ys": ends,
        "bytes": m.size_bytes,
        "invalid": bool(m.invalid),
        "provenance": clean(m.provenance),
        "front": on_front,
        "recommended": p.recommended,
        "row": row,
        "figures": [clean(text) for text in figures],
    }


def _title(scope: Scope, all_scopes: Sequence[Scope]) -> str:
    """The device, and how this scope differs from others on it."""
    same = [other for other in all_scopes if other.target == scope.target]
    if len(same) == 1:
        return scope.target
    differences = [plan_text(scope.threads, scope.batch, scope.prompt, scope.new_tokens)]
    differences += [scope.cpu] if len({other.cpu for other in same}) > 1 else []
    differences += [f"set {scope.set_sha256[:8]}"] if len({other.set_sha256 for other in same}) > 1 else []
    return f"{scope.target}: {', '.join(differences)}"
