"""All measurements in one table that can be sorted and filtered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from edgekit.core.measurement import Latency, Measurement, Metric
from edgekit.report.best import FASTEST, MOST_ACCURATE, Best, best
from edgekit.report.pareto import unbeaten
from edgekit.report.rows import Row, memory, metric_name, rows, scopes
from edgekit.report.style import format_class, mark, safe, shape_of

Key = Callable[[Measurement], float | None]


@dataclass(frozen=True)
class Column:
    """A column of the table: a Row's field, with the field `detail` in small print below.

    `key` gives the number to sort by; a column without a key holds text.
    """

    group: str
    title: str
    field: str
    key: Key | None = None
    detail: str = ""


def _metric(of: Callable[[Metric], float | None]) -> Key:
    return lambda m: of(m.metric) if m.metric else None


def _latency(of: Callable[[Latency], float]) -> Key:
    return lambda m: of(m.latency_ms) if m.latency_ms else None


COLUMNS = (
    Column("Model", "artifact", "artifact"),
    Column("Model", "target", "target"),
    Column("Model", "runtime", "runtime"),
    Column("Model", "precision", "precision"),
    Column("Quality", "accuracy", "accuracy", _metric(lambda metric: metric.value), "accuracy_ci"),
    Column("Quality", "drop, pp", "drop", _metric(lambda metric: metric.drop_pp), "drop_ci"),
    Column("Quality", "budget", "verdict", None, "budget"),
    Column("Latency, ms", "p50", "p50", _latency(lambda latency: latency.p50), "p50_ci"),
    Column("Latency, ms", "p90", "p90", _latency(lambda latency: latency.p90)),
    Column("Latency, ms", "p99", "p99", _latency(lambda latency: latency.p99)),
    Column("Latency, ms", "load", "load", lambda m: m.load_ms),
    Column("Memory, MB", "model", "memory", memory),
    Column("Memory, MB", "baseline", "floor", lambda m: m.floor_rss_bytes),
    Column("Size, kB", "file", "size", lambda m: m.size_bytes),
    Column("Size, kB", "weights", "weights", lambda m: m.weight_bytes),
    Column("Size, kB", "graph", "graph", lambda m: m.graph_bytes),
    Column("Size, kB", "metadata", "metadata", lambda m: m.metadata_bytes),
    Column("Parity", "dB", "parity", lambda m: m.parity.sqnr_db if m.parity else None),
    Column("How", "scheme", "scheme"),
    Column("How", "notes", "notes"),
)
#: State of a budget → its sign and colour class.
VERDICTS = {"met": ("✓", "good"), "missed": ("✗", "bad"), "undecided": ("?", "unsure")}


def table(measurements: Sequence[Measurement]) -> str:
    """The section: filters (shown by the page's script), the table, and the meaning of its marks."""
    marks = best(measurements)
    front = {id(m) for scoped in scopes(measurements).values() for ms in unbeaten(scoped).values() for m in ms}
    body = "".join(
        _line(i, m, row, marks, id(m) in front)
        for i, (m, row) in enumerate(zip(measurements, rows(measurements), strict=True))
    )
    return (
        '<section id="all"><h2 id="all-title">Every measurement</h2>'
        f'{_filters(measurements)}<div class="scroll" role="region" aria-labelledby="all-title" tabindex="0">'
        '<table class="rows"><caption>One row per artifact, target and runtime</caption>'
        f"<thead>{_head(measurements)}</thead><tbody>{body}</tbody></table></div>"
        f'<p class="soft">{FASTEST} fastest on its device, or no significant difference from it (99 % CI); '
        f"{MOST_ACCURATE} best metric there; differences within the intervals are not proven. "
        "Ranked within one device and plan; invalid or not measured rows are not ranked.</p></section>"
    )


def _filters(measurements: Sequence[Measurement]) -> str:
    """The form that filters rows and points of the plot."""
    choices = "".join(
        _choice(name, label, dict.fromkeys(str(getattr(m, name)) for m in measurements))
        for name, label in (("target", "device"), ("runtime", "runtime"), ("precision", "precision"))
    )
    checks = _check("front", "Pareto front only") + (
        _check("valid", "hide invalid") if any(m.invalid for m in measurements) else ""
    )
    return (
        '<form class="filters" aria-label="Filter rows and points">'
        '<label>name contains<input type="search" name="name" autocomplete="off" spellcheck="false"></label>'
        f"{choices}{checks}"
        '<button type="reset">Show all</button><output role="status" aria-live="polite"></output></form>'
    )


def _choice(name: str, label: str, values: Iterable[str]) -> str:
    options = "".join(f'<option value="{safe(value)}">{safe(value or "-")}</option>' for value in values)
    return f'<label>{label}<select name="{name}"><option value="">all</option>{options}</select></label>'


def _check(name: str, label: str) -> str:
    return f'<label class="check"><input type="checkbox" name="{name}">{label}</label>'


def _head(measurements: Sequence[Measurement]) -> str:
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(list(columns))}">{safe(group)}</th>'
        for group, columns in groupby(COLUMNS, key=lambda column: column.group)
    )
    metric = metric_name(measurements)
    titles = "".join(
        f'<th scope="col"{_class(column)}>{safe(metric if column.field == "accuracy" else column.title)}</th>'
        for column in COLUMNS
    )
    return f'<tr class="groups">{groups}</tr><tr class="titles">{titles}</tr>'


def _class(column: Column) -> str:
    starts = next(c for c in COLUMNS if c.group == column.group) is column
    classes = " ".join(name for name, on in (("n", column.key), ("first", starts)) if on)
    return f' class="{classes}"' if classes else ""


def _line(position: int, m: Measurement, row: Row, marks: Best, on_front: bool) -> str:
    shape = mark(shape_of(m.precision), 8, 8, 5, f"ek-mark {'ek-invalid' if m.invalid else format_class(m.format)}")
    icon = f'<svg class="ek" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'
    cells = [f'<th scope="row" class="first"><span>{icon}<span>{safe(row.artifact)}</span></span></th>']
    cells += [_cell(column, m, row, position, marks) for column in COLUMNS[1:]]
    data = {"name": m.artifact, "target": m.target, "runtime": m.runtime, "precision": m.precision}
    attributes = "".join(f' data-{name}="{safe(value)}"' for name, value in data.items())
    attributes += ' data-front="1"' * on_front + ' class="invalid"' * bool(m.invalid)
    return f'<tr id="row-{position}" tabindex="-1"{attributes}>{"".join(cells)}</tr>'


def _cell(column: Column, m: Measurement, row: Row, position: int, marks: Best) -> str:
    value = column.key(m) if column.key else None
    sort = f' data-sort="{value!r}"' if value is not None and math.isfinite(value) else ""
    if column.field == "notes":
        return f'<td class="text">{"<br>".join(_notes(row))}</td>'
    text = safe(getattr(row, column.field))
    if column.field == "verdict" and row.verdict in VERDICTS:
        sign, colour = VERDICTS[row.verdict]
        text = f'<b class="{colour}"><span aria-hidden="true">{sign}</span> {text}</b>'
    if column.field == "p50" and position in marks.fastest:
        text = _marked(FASTEST, "fastest") + text
    if column.field == "accuracy" and position in marks.most_accurate:
        text = _marked(MOST_ACCURATE, "best") + text
    if column.detail and (detail := getattr(row, column.detail)):
        text += f"<small>{safe(detail)}</small>"
    classes = ' class="text"' if column.field == "scheme" else _class(column)
    return f"<td{classes}{sort}>{text}</td>"


def _marked(sign: str, label: str) -> str:
    return f'<span class="mark" aria-hidden="true">{sign}</span><span class="away">{label} </span>'


def _notes(row: Row) -> Iterator[str]:
    for note in row.notes:
        yield f'<span class="bad">{safe(note)}</span>' if note.startswith("invalid") else safe(note)
