"""Measurements → tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.measurement import Measurement, Metric
from edgekit.core.printable import printable
from edgekit.report import tables
from edgekit.report.advice import advice
from edgekit.report.best import Best, best
from edgekit.report.notes import grouped
from edgekit.report.rows import EMPTY_CELL, SIGNIFICANT, facts, gains, metric_change, metric_name, rows

if TYPE_CHECKING:
    from rich.text import Text

STAR = "*"
#: before the latency of an invalid row, and before the note that says why
INVALID = "!"
NO_DIFFERENCE = "n.s."


def terminal(
    measurements: Sequence[Measurement], reused: int = 0, folder: Path | None = None, advise: bool = False
) -> None:
    """Print a table per target and plan, the gains, and how it was measured.

    With `advise`, also what to ship; a star marks the best values of a device.
    """
    if not measurements:
        tables.show(["no measurements"])
        return
    row_pairs = list(zip(rows(measurements), measurements, strict=True))
    best_rows = best(measurements) if advise else Best(frozenset(), frozenset())
    runtimes_by_row = Counter(
        place[:-1] for place in {(row.artifact, row.target, row.plan, row.runtime) for row, _ in row_pairs}
    )
    several_targets = len({m.target for m in measurements}) > 1
    items: list[str | Text | tables.Table] = []
    for group in dict.fromkeys((row.target, row.plan) for row, _ in row_pairs):
        heading = ", ".join(part for part in (group[0] if several_targets else "", group[1]) if part)
        if heading:
            items.append(_styled(heading, "bold"))
        generates = any(m.generation for row, m in row_pairs if (row.target, row.plan) == group)
        table = tables.table(
            tables.words("artifact"),
            tables.numbers(metric_name(measurements)),
            tables.numbers("drop pp"),
            tables.numbers("p50 ms"),
            *(
                [tables.numbers("TTFT ms"), tables.numbers("tok/s")]
                if generates
                else [tables.numbers("p90 ms", spare=True)]
            ),
            tables.numbers("kB"),
            tables.numbers("mem MB", spare=True),
            tables.numbers("budget"),
        )
        for position, (row, m) in enumerate(row_pairs):
            if (row.target, row.plan) != group:
                continue
            has_other_runtimes = runtimes_by_row[row.artifact, row.target, row.plan] > 1
            name = f"{row.artifact} ({row.runtime})" if has_other_runtimes else row.artifact
            accuracy = STAR * (position in best_rows.most_accurate) + row.accuracy
            p50 = INVALID * bool(m.invalid) + STAR * (position in best_rows.fastest) + row.p50
            times = [row.first_token, row.tokens_per_second] if generates else [row.p90]
            cells = [name, accuracy, row.drop, p50, *times, row.size, row.memory, row.verdict]
            tables.add(table, *cells, style="dim" if m.invalid else None)
        items.append(table)
    if advise:
        items += _advised(measurements)
    items += _gains(measurements)
    lines = [*grouped([row for row, _ in row_pairs], f"{INVALID} "), *facts(measurements)]
    if best_rows.fastest:
        lines.insert(0, f"{STAR} best on its device: highest metric; fastest, or no significant difference (99 % CI)")
    if reused:
        lines.append(f"{reused} reused")
    if folder:
        lines.append(f"saved in {folder}: show it again with edgekit compare {folder}")
    tables.show([*items, *(_styled(line, "dim") for line in lines)])


def _gains(measurements: Sequence[Measurement]) -> Iterator[str | Text | tables.Table]:
    """How many times smaller and faster each compressed artifact is than its float parent."""
    all_gains = gains(measurements)
    if not all_gains:
        return
    several_targets = len({gain.target for gain in all_gains}) > 1
    heads = ("weights", "file", "p50", metric_name(measurements))
    table = tables.table(*map(tables.words, ("times smaller, faster", "than")), *map(tables.numbers, heads))
    for gain in all_gains:
        where = ", ".join([gain.target] * several_targets + [gain.plan] * bool(gain.plan))
        name = f"{gain.artifact} ({where})" if where else gain.artifact
        changes = {part: _times(text, is_worse) for part, text, is_worse in gain.parts()}
        parts = (changes.get(part, EMPTY_CELL) for part in ("weights", "file", "p50"))
        tables.add(table, name, gain.against, *parts, _metric_change(gain.metric))
    yield table
    if any(cell.plain == NO_DIFFERENCE for cells, _ in table.rows for cell in cells):
        text = f"{NO_DIFFERENCE}: no significant difference (99 %); of the metric, from the float root"
        yield _styled(text, "dim")


def _times(text: str, is_worse: bool) -> str:
    """ "1.24 times faster" → "1.24", "1.30 times SLOWER" → "1.30 SLOWER"."""
    value, _, what = text.partition(" times ")
    return NO_DIFFERENCE if not what else f"{value} {what}" if is_worse else value


def _metric_change(metric: Metric | None) -> str:
    if metric is None or metric.drop_p is None or metric.drop_pp is None:
        return EMPTY_CELL
    return NO_DIFFERENCE if metric.drop_p >= SIGNIFICANT else metric_change(metric)


def _styled(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(printable(text), style=style)


def _advised(measurements: Sequence[Measurement]) -> Iterable[str | Text]:
    """A paragraph per device: what to ship (bold), what it costs, and what is not proven."""
    for item in advice(measurements):
        yield ""
        yield _styled(item.ship[0], "bold")
        for line in (*item.ship[1:], *item.costs, *(f"Not proven: {text}" for text in item.unproven)):
            yield f"  {line}"
    yield ""
