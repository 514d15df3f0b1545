"""Measurements → a terminal table of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.measurement import Measurement
from edgekit.core.printable import printable
from edgekit.report import tables
from edgekit.report.advice import advice
from edgekit.report.best import Best, best
from edgekit.report.rows import facts, metric_name, ratios, rows

if TYPE_CHECKING:
    from rich.console import Console

STAR = "*"


def terminal(
    measurements: Sequence[Measurement], reused: int = 0, folder: Path | None = None, advise: bool = False
) -> None:
    """Print a table per target and plan, the gains, and how it was measured.

    With `advise`, also what to ship; a star marks the best values of a device.
    """
    from rich.text import Text

    console = tables.console()
    if not measurements:
        console.print("no measurements")
        return
    row_pairs = list(zip(rows(measurements), measurements, strict=True))
    best_rows = best(measurements) if advise else Best(frozenset(), frozenset())
    runtimes_by_row = Counter(
        place[:-1] for place in {(row.artifact, row.target, row.plan, row.runtime) for row, _ in row_pairs}
    )
    several_targets = len({m.target for m in measurements}) > 1
    notes = []
    for group in dict.fromkeys((row.target, row.plan) for row, _ in row_pairs):
        heading = ", ".join(part for part in (group[0] if several_targets else "", group[1]) if part)
        if heading:
            console.print(Text(printable(heading), style="bold"))
        heads = (metric_name(measurements), "drop pp", "p50 ms", "p90 ms", "kB", "mem MB", "budget")
        table = tables.table(tables.words("artifact"), *map(tables.numbers, heads))
        for position, (row, m) in enumerate(row_pairs):
            if (row.target, row.plan) != group:
                continue
            has_other_runtimes = runtimes_by_row[row.artifact, row.target, row.plan] > 1
            name = f"{row.artifact} ({row.runtime})" if has_other_runtimes else row.artifact
            accuracy = STAR * (position in best_rows.most_accurate) + row.accuracy
            p50 = STAR * (position in best_rows.fastest) + row.p50
            cells = [name, accuracy, row.drop, p50, row.p90, row.size, row.memory, row.verdict]
            tables.add(table, *cells, style="dim" if m.invalid else None)
            where = f"{row.artifact} on {row.target}" if several_targets else row.artifact
            notes += [f"{where}: {note}" for note in row.notes if note != row.plan]
        console.print(table)
    if best_rows.fastest:
        notes.insert(0, f"{STAR} best on its device: highest metric; fastest, or no significant difference (99 % CI)")
    if advise:
        _advise(console, measurements)
    lines = [*ratios(measurements), *notes, *facts(measurements)]
    if reused:
        lines.append(f"{reused} reused")
    if folder:
        lines.append(f"saved in {folder}: show it again with edgekit compare {folder}")
    for line in lines:
        console.print(Text(printable(line), style="dim"))


def _advise(console: Console, measurements: Sequence[Measurement]) -> None:
    """A paragraph per device: what to ship (bold), what it costs, and what is not proven."""
    from rich.padding import Padding
    from rich.text import Text

    for item in advice(measurements):
        console.print()
        console.print(Text(printable(item.ship[0]), style="bold"))
        for line in (*item.ship[1:], *item.costs, *(f"Not proven: {text}" for text in item.unproven)):
            console.print(Padding(Text(printable(line)), (0, 0, 0, 2)))
    console.print()
