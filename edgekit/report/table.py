"""All measurements in one table that can be sorted and filtered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Generation, Latency, Measurement, Metric
from edgekit.report.advice import recommended
from edgekit.report.pareto import unbeaten
from edgekit.report.rows import EMPTY_CELL, Row, common_notes, memory, metric_name, rows, scopes
from edgekit.report.style import format_class, mark, safe, shape_of

Key = Callable[[Measurement], float | None]


@dataclass(frozen=True)
class Column:
    """A column of the table: a Row's field, with the field `detail` in small print below.

    `key` gives the number to sort by; a column without a key holds text. `more`: shown with "all columns" only.
    """

    title: str
    field: str
    key: Key | None = None
    detail: str = ""
    more: bool = False


def _metric(of: Callable[[Metric], float | None]) -> Key:
    return lambda m: of(m.metric) if m.metric else None


def _latency(of: Callable[[Latency], float]) -> Key:
    return lambda m: of(m.latency_ms) if m.latency_ms else None


def _generation(of: Callable[[Generation], float]) -> Key:
    return lambda m: of(m.generation) if m.generation else None


COLUMNS = (
    Column("artifact", "artifact"),
    Column("device", "target"),
    Column("runtime", "runtime"),
    Column("precision", "precision", more=True),
    Column("accuracy", "accuracy", _metric(lambda metric: metric.value), "accuracy_ci"),
    Column("drop, pp", "drop", _metric(lambda metric: metric.drop_pp), "drop_ci"),
    Column("budget", "verdict", None, "budget"),
    Column("p50, ms", "p50", _latency(lambda latency: latency.p50), "p50_ci"),
    Column("p90, ms", "p90", _latency(lambda latency: latency.p90), more=True),
    Column("p99, ms", "p99", _latency(lambda latency: latency.p99), more=True),
    Column("TTFT, ms", "first_token", _generation(lambda parts: parts.first_token_ms.p50), "first_token_ci"),
    Column("tokens/s", "tokens_per_second", _generation(lambda parts: parts.tokens_per_second), "tokens_per_second_ci"),
    Column("cache, kB", "cache", _generation(lambda parts: parts.cache_bytes), more=True),
    Column("load, ms", "load", lambda m: m.load_ms, more=True),
    Column("memory, MB", "memory", memory),
    Column("baseline, MB", "floor", lambda m: m.floor_rss_bytes, more=True),
    Column("file, kB", "size", lambda m: m.size_bytes),
    Column("weights, kB", "weights", lambda m: m.weight_bytes, more=True),
    Column("graph, kB", "graph", lambda m: m.graph_bytes, more=True),
    Column("metadata, kB", "metadata", lambda m: m.metadata_bytes, more=True),
    Column("parity, dB", "parity", lambda m: m.parity.sqnr_db if m.parity else None, more=True),
    Column("same nearest", "neighbours", lambda m: m.parity.neighbour_agreement if m.parity else None, more=True),
    Column("scheme", "scheme", more=True),
)
#: A longer table scrolls under its headings.
LONG = 25
_BAD = ' class="bad"'
#: State of a budget → its sign and colour class.
VERDICTS = {"met": ("✓", "good"), "missed": ("✗", "bad"), "undecided": ("?", "unsure")}


def table(measurements: Sequence[Measurement]) -> str:
    """The section: filters (shown by the page's script), and the table, which is a list of cards on a phone."""
    chosen = recommended(measurements)
    front = {id(m) for scoped in scopes(measurements).values() for ms in unbeaten(scoped).values() for m in ms}
    all_rows = rows(measurements)
    columns = _shown(all_rows)
    common = common_notes(all_rows)
    body = "".join(
        _line(i, m, row, columns, common, id(m) in chosen, id(m) in front)
        for i, (m, row) in enumerate(zip(measurements, all_rows, strict=True))
    )
    return (
        '<section id="all"><h2 id="all-title">Every measurement</h2>'
        f'{_filters(measurements)}<label class="check"><input type="checkbox" id="columns">all columns</label>'
        f'<div class="scroll{" long" * (len(all_rows) > LONG)}" role="region" aria-labelledby="all-title" tabindex="0">'
        '<table class="rows" role="table"><caption>One row per artifact, target and runtime</caption>'
        f'<thead role="rowgroup">{_head(columns, measurements)}</thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
        '<p class="soft">Small figures are 95 % intervals. The Pareto front is that in metric, p50, file and memory, '
        "within one device and plan; invalid rows are not ranked.</p></section>"
    )


def _shown(all_rows: Sequence[Row]) -> list[Column]:
    """The columns with a value in any row; the device only if there are several."""

    def is_shown(column: Column) -> bool:
        values = {getattr(row, column.field) for row in all_rows}
        return len(values) > 1 if column.field == "target" else bool(values - {"", EMPTY_CELL})

    return [column for column in COLUMNS if column.field == "artifact" or is_shown(column)]


def _filters(measurements: Sequence[Measurement]) -> str:
    """The form that filters rows and points of the plot."""
    fields = {"device": "target", "runtime": "runtime", "precision": "precision"}
    values = {label: dict.fromkeys(str(getattr(m, name)) for m in measurements) for label, name in fields.items()}
    choices = "".join(_choice(fields[label], label, of) for label, of in values.items() if len(of) > 1)
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


def _head(columns: Sequence[Column], measurements: Sequence[Measurement]) -> str:
    titles = "".join(
        f'<th scope="col" role="columnheader"{_class(column)}>{safe(_title(column, measurements))}</th>'
        for column in columns
    )
    return f'<tr class="titles" role="row">{titles}</tr>'


def _title(column: Column, measurements: Sequence[Measurement]) -> str:
    return metric_name(measurements) if column.field == "accuracy" else column.title


def _class(column: Column) -> str:
    classes = " ".join(
        name for name, on in (("n", column.key), ("more", column.more), ("text", column.field == "scheme")) if on
    )
    return f' class="{classes}"' if classes else ""


def _line(
    position: int,
    m: Measurement,
    row: Row,
    columns: Sequence[Column],
    common: Sequence[str],
    is_recommended: bool,
    on_front: bool,
) -> str:
    shape = mark(shape_of(m.precision), 8, 8, 5, f"ek-mark {'ek-invalid' if m.invalid else format_class(m.format)}")
    icon = f'<svg class="ek" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'
    badge = '<em class="badge">recommended</em>' if is_recommended else ""
    notes = "".join(
        f"<small{_BAD * note.startswith('invalid')}>{safe(note)}</small>" for note in row.notes if note not in common
    )
    cells = [
        f'<th scope="row" role="rowheader"><span>{icon}<span>{safe(row.artifact)}</span></span>{badge}{notes}</th>'
    ]
    cells += [_cell(column, m, row, _title(column, [m])) for column in columns[1:]]
    data = {"name": m.artifact, "target": m.target, "runtime": m.runtime, "precision": m.precision}
    attributes = "".join(f' data-{name}="{safe(value)}"' for name, value in data.items())
    classes = " ".join(name for name, on in (("invalid", m.invalid), ("recommended", is_recommended)) if on)
    attributes += ' data-front="1"' * on_front + (f' class="{classes}"' if classes else "")
    return f'<tr id="row-{position}" role="row" tabindex="-1"{attributes}>{"".join(cells)}</tr>'


def _cell(column: Column, m: Measurement, row: Row, title: str) -> str:
    value = column.key(m) if column.key else None
    sort = f' data-sort="{value!r}"' if value is not None and math.isfinite(value) else ""
    text = safe(getattr(row, column.field))
    if column.field == "verdict" and row.verdict in VERDICTS:
        sign, colour = VERDICTS[row.verdict]
        text = f'<b class="{colour}"><span aria-hidden="true">{sign}</span> {text}</b>'
    if column.detail and (detail := getattr(row, column.detail)):
        text += f"<small>{safe(detail)}</small>"
    empty = " data-empty" * (text == EMPTY_CELL)
    return f'<td role="cell" data-title="{safe(title)}"{empty}{_class(column)}{sort}>{text}</td>'
