"""Measurements → one page that stands alone: no request leaves it, and without its script it reads the same.

Its content-security policy allows its own style and script by their hashes and nothing else, so even a name that
slipped through escaping could neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import Gain, Row, Scope, facts, fronts, gains, memory, metric_name, rows, scopes
from edgekit.report.style import PAGE, PICTURE, format_class, mark, safe, shape_of, variables
from edgekit.types import Latency, Measurement, Metric

Key = Callable[[Measurement], float | None]


@dataclass(frozen=True)
class Column:
    """A column of the table: a Row's field, with `detail` in small print under it.

    `key` gives the number it is sorted by; without one it holds text.
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
    Column("Memory, MB", "floor", "floor", lambda m: m.floor_rss_bytes),
    Column("Size, kB", "file", "size", lambda m: m.size_bytes),
    Column("Size, kB", "weights", "weights", lambda m: m.weight_bytes),
    Column("Size, kB", "graph", "graph", lambda m: m.graph_bytes),
    Column("Size, kB", "metadata", "metadata", lambda m: m.metadata_bytes),
    Column("Parity", "dB", "parity", lambda m: m.parity.sqnr_db if m.parity else None),
    Column("How", "scheme", "scheme"),
    Column("How", "notes", "notes"),
)
#: State of a budget → the sign before its word, and its colour.
VERDICTS = {"met": ("✓", "good"), "missed": ("✗", "bad"), "undecided": ("?", "unsure")}


def html(measurements: Sequence[Measurement], title: str) -> str:
    """The whole page."""
    style = variables() + PICTURE + PAGE
    body = "".join(
        (
            f"<header><h1>{safe(title)}</h1><p>{safe(_summary(measurements))}</p></header>",
            _pictures(measurements),
            _gains(measurements),
            _table(measurements) if measurements else "",
            _facts(measurements),
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{safe(title)}</title>\n<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n'
        f"<body>\n<main>{body}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _policy(style: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(SCRIPT)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _summary(measurements: Sequence[Measurement]) -> str:
    if not measurements:
        return "Nothing was measured."
    targets = list(dict.fromkeys(m.target for m in measurements))
    invalid = sum(bool(m.invalid) for m in measurements)
    text = f"{_count(len(measurements), 'measurement')} on {_count(len(targets), 'target')}: {', '.join(targets)}"
    return text + (f"; {invalid} invalid, shown grey and not ranked" if invalid else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _pictures(measurements: Sequence[Measurement]) -> str:
    found = scopes(measurements)
    if not found:
        return ""
    figures = "".join(_figure(scope, shown, f"p{i}") for i, (scope, shown) in enumerate(found.items()))
    return f"<section><h2>Accuracy, latency and size</h2>{figures}</section>"


def _figure(scope: Scope, measurements: Sequence[Measurement], name: str) -> str:
    """Drawn twice, for a wide window and for a phone; the style shows the one that fits."""
    wide, narrow = inline(scope, measurements, WIDE, f"{name}w"), inline(scope, measurements, NARROW, f"{name}n")
    reached = [
        f"On the Pareto front ({provenance}), fastest first: {', '.join(m.artifact for m in front)}."
        for provenance, front in fronts(measurements).items()
    ]
    return (
        f'<figure><figcaption><h3>{safe(scope.target)}</h3><p class="soft">{safe(scope)}</p></figcaption>'
        f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"{''.join(f'<p>{safe(line)}</p>' for line in reached)}</figure>"
    )


def _gains(measurements: Sequence[Measurement]) -> str:
    found = gains(measurements)
    if not found:
        return ""
    several = len({m.target for m in measurements}) > 1
    items = "".join(f"<li>{_gain(gain, several)}</li>" for gain in found)
    return f"<section><h2>What compression gained</h2><ul>{items}</ul></section>"


def _gain(gain: Gain, several: bool) -> str:
    changes = ", ".join(
        f'{name} <strong class="bad">{safe(text.lower())}</strong>' if worse else f"{name} {safe(text)}"
        for name, text, worse in gain.parts()
    )
    where = f" on {safe(gain.target)}" if several else ""
    return f"<b>{safe(gain.artifact)}</b> against {safe(gain.against)}{where}: {changes}."


def _facts(measurements: Sequence[Measurement]) -> str:
    items = "".join(f"<li>{safe(line)}.</li>" for line in facts(measurements))
    if not items:
        return ""
    return (
        f"<section><h2>How it was measured</h2><ul>{items}</ul>"
        '<p class="soft">Small figures are 95 % intervals. Drop: percentage points lost against the float root on the '
        "same samples, positive when worse. Model memory: the process’s peak above the runtime’s own floor. "
        "Parity: signal to noise of the outputs against the parent’s. kB and MB are 1,000 and 1,000,000 bytes."
        "</p></section>"
    )


def _table(measurements: Sequence[Measurement]) -> str:
    body = "".join(_line(m, row) for m, row in zip(measurements, rows(measurements), strict=True))
    return (
        '<section><h2 id="all">Every measurement</h2><div class="scroll" role="region" aria-labelledby="all" '
        'tabindex="0"><table><caption>One row per artifact, target and runtime</caption>'
        f"<thead>{_head(measurements)}</thead><tbody>{body}</tbody></table></div></section>"
    )


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


def _line(m: Measurement, row: Row) -> str:
    shape = mark(shape_of(m.precision), 8, 8, 5, f"ek-mark {'ek-invalid' if m.invalid else format_class(m.format)}")
    icon = f'<svg class="ek" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'
    cells = [f'<th scope="row" class="first"><span>{icon}<span>{safe(row.artifact)}</span></span></th>']
    cells += [_cell(column, m, row) for column in COLUMNS[1:]]
    return f'<tr class="invalid">{"".join(cells)}</tr>' if m.invalid else f"<tr>{''.join(cells)}</tr>"


def _cell(column: Column, m: Measurement, row: Row) -> str:
    value = column.key(m) if column.key else None
    sort = f' data-sort="{value!r}"' if value is not None and math.isfinite(value) else ""
    if column.field == "notes":
        return f'<td class="text">{"<br>".join(_notes(row))}</td>'
    text = safe(getattr(row, column.field))
    if column.field == "verdict" and row.verdict in VERDICTS:
        sign, colour = VERDICTS[row.verdict]
        text = f'<b class="{colour}"><span aria-hidden="true">{sign}</span> {text}</b>'
    if column.detail and (detail := getattr(row, column.detail)):
        text += f"<small>{safe(detail)}</small>"
    classes = ' class="text"' if column.field == "scheme" else _class(column)
    return f"<td{classes}{sort}>{text}</td>"


def _notes(row: Row) -> Iterator[str]:
    for note in row.notes:
        yield f'<span class="bad">{safe(note)}</span>' if note.startswith("invalid") else safe(note)


SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.querySelectorAll(".titles th")];
  const value = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent.trim();
  const empty = (text) => text === "-" || text === "";
  const compare = (a, b, numeric) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending", numeric = head.classList.contains("n");
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sorted = [...body.rows].sort((r, s) => {
        const a = value(r, i), b = value(s, i);
        if (empty(a) || empty(b)) return empty(a) - empty(b);
        return compare(a, b, numeric) * (up ? 1 : -1) || 0;
      });
      body.append(...sorted);
    });
  });
}
"""
