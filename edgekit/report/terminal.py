"""Measurements → a table that fits 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.measurement import Measurement
from edgekit.report import tables
from edgekit.report.advice import advice
from edgekit.report.best import Best, best
from edgekit.report.rows import facts, metric_name, plain, ratios, rows

if TYPE_CHECKING:
    from rich.console import Console

STAR = "*"


def terminal(
    measurements: Sequence[Measurement], reused: int = 0, folder: Path | None = None, advise: bool = False
) -> None:
    """Print a table per target and plan on stdout (never ranked together), what was gained, how it was measured.

    With `advise`, also what to ship; a star marks the best figures of a device.
    """
    from rich.text import Text

    console = tables.console()
    if not measurements:
        console.print("nothing was measured")
        return
    shown = list(zip(rows(measurements), measurements, strict=True))
    marks = best(measurements) if advise else Best(frozenset(), frozenset())
    names = Counter(place[:-1] for place in {(row.artifact, row.target, row.plan, row.runtime) for row, _ in shown})
    several = len({m.target for m in measurements}) > 1
    notes = []
    for group in dict.fromkeys((row.target, row.plan) for row, _ in shown):
        heading = ", ".join(part for part in (group[0] if several else "", group[1]) if part)
        if heading:
            console.print(Text(plain(heading), style="bold"))
        heads = (metric_name(measurements), "drop pp", "p50 ms", "p90 ms", "kB", "mem MB", "budget")
        table = tables.table(tables.words("artifact"), *map(tables.numbers, heads))
        for position, (row, m) in enumerate(shown):
            if (row.target, row.plan) != group:
                continue
            twice = names[row.artifact, row.target, row.plan] > 1
            name = f"{row.artifact} ({row.runtime})" if twice else row.artifact
            accuracy = STAR * (position in marks.most_accurate) + row.accuracy
            p50 = STAR * (position in marks.fastest) + row.p50
            cells = [name, accuracy, row.drop, p50, row.p90, row.size, row.memory, row.verdict]
            tables.add(table, *cells, style="dim" if m.invalid else None)
            where = f"{row.artifact} on {row.target}" if several else row.artifact
            notes += [f"{where}: {note}" for note in row.notes if note != row.plan]
        console.print(table)
    if marks.fastest:
        notes.insert(0, f"{STAR} best of its device: highest metric; fastest, with all not told apart from it")
    if advise:
        _advise(console, measurements)
    lines = [*ratios(measurements), *notes, *facts(measurements)]
    if reused:
        lines.append(f"{reused} reused from before")
    if folder:
        lines.append(f"in {folder}: edgekit compare {folder} shows this again")
    for line in lines:
        console.print(Text(plain(line), style="dim"))


def _advise(console: Console, measurements: Sequence[Measurement]) -> None:
    """A paragraph per device: what to ship in bold, then what it costs and what is not proven."""
    from rich.padding import Padding
    from rich.text import Text

    for item in advice(measurements):
        console.print()
        console.print(Text(plain(item.ship[0]), style="bold"))
        for line in (*item.ship[1:], *item.costs, *(f"Not proven: {text}" for text in item.unproven)):
            console.print(Padding(Text(plain(line)), (0, 0, 0, 2)))
    console.print()
