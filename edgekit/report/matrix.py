"""Device × runtime × model: latency and metric of each model, the best marked, invalid ones grey with their reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.best import FASTEST, MOST_ACCURATE, best
from edgekit.report.rows import metric_text, number, rows
from edgekit.report.style import safe

Column = tuple[str, str, str]


def matrix(measurements: Sequence[Measurement]) -> str:
    """A table with a row per model and a column per device, plan and runtime; "" with a single column."""
    plans = [row.plan for row in rows(measurements)]
    marks = best(measurements)
    cells: dict[tuple[str, Column], list[str]] = {}
    for i, (m, plan) in enumerate(zip(measurements, plans, strict=True)):
        cells.setdefault((model(m), (m.target, plan, m.runtime)), []).append(_cell(m, marks.marks(i)))
    columns = sorted({column for _, column in cells}, key=_order(measurements, plans))
    models = list(dict.fromkeys(model(m) for m in measurements))
    if len(columns) < 2:
        return ""
    body = "".join(
        f'<tr><th scope="row">{safe(name)}</th>'
        + "".join(_table_cell(cells.get((name, column), ()), column, columns) for column in columns)
        + "</tr>"
        for name in models
    )
    return (
        '<section id="matrix"><h2 id="matrix-title">Device × runtime × model</h2>'
        '<div class="scroll" role="region" aria-labelledby="matrix-title" tabindex="0"><table class="matrix">'
        "<caption>p50 in ms and metric of each model, per device and runtime</caption>"
        f"<thead>{_head(columns)}</thead><tbody>{body}</tbody></table></div>"
        f'<p class="soft">p50 in ms, the metric under it. {FASTEST} fastest on its device, or no significant '
        f"difference from it (99 % CI); {MOST_ACCURATE} best metric there. Invalid values, and values not measured on "
        "the device, are never marked.</p></section>"
    )


def model(m: Measurement) -> str:
    """The artifact's name without its format, which the runtime implies: `ds.onnx-int8` is `ds int8`."""
    before, dot, last = m.artifact.rpartition(".")
    suffix = re.sub(rf"^{re.escape(m.format)}(?=$|[-~@])-?", "", last) if m.format else last
    stem = f"{before}{dot}"
    return f"{stem[:-1]} {suffix}".strip() if dot else (suffix or "float")


def _order(measurements: Sequence[Measurement], plans: Sequence[str]) -> Callable[[Column], tuple[int, int, str]]:
    targets = list(dict.fromkeys(m.target for m in measurements))
    seen = list(dict.fromkeys(plans))
    return lambda column: (targets.index(column[0]), seen.index(column[1]), column[2])


def _head(columns: Sequence[Column]) -> str:
    groups: dict[tuple[str, str], int] = {}
    for target, plan, _ in columns:
        groups[target, plan] = groups.get((target, plan), 0) + 1
    group_row = "".join(
        f'<th scope="colgroup" colspan="{count}" class="first">{safe(target)}'
        f"{f'<small>{safe(plan)}</small>' if plan else ''}</th>"
        for (target, plan), count in groups.items()
    )
    column_row = "".join(f'<th scope="col" class="n{_edge(c, columns)}">{safe(c[2])}</th>' for c in columns)
    return f'<tr><th scope="col" rowspan="2">model</th>{group_row}</tr><tr>{column_row}</tr>'


def _edge(column: Column, columns: Sequence[Column]) -> str:
    return " first" if next(c for c in columns if c[:2] == column[:2]) == column else ""


def _table_cell(cells: Sequence[str], column: Column, columns: Sequence[Column]) -> str:
    return f'<td class="n{_edge(column, columns)}">{"".join(cells) or "-"}</td>'


def _cell(m: Measurement, marks: str) -> str:
    metric = f"<small>{safe(metric_text(m.metric, m.metric.value))}</small>" if m.metric else ""
    p50 = number(m.latency_ms.p50) if m.latency_ms else "-"
    if m.invalid:
        return f'<div class="invalid">{p50}{metric}<small>invalid: {safe("; ".join(m.invalid))}</small></div>'
    words = "".join(
        f'<span class="away">{text} </span>'
        for sign, text in ((FASTEST, "fastest"), (MOST_ACCURATE, "best"))
        if sign in marks
    )
    sign = f'<span class="mark" aria-hidden="true">{marks}</span>{words}' if marks else ""
    provenance = f"<small>{safe(m.provenance)}</small>" if m.provenance != "measured" else ""
    return f"<div>{sign}{'<b>' * bool(marks)}{p50}{'</b>' * bool(marks)}{metric}{provenance}</div>"
