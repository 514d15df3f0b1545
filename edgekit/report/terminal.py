"""Measurements → a table that fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.report.rows import facts, metric_name, plain, ratios, rows
from edgekit.types import Measurement


def terminal(measurements: Sequence[Measurement], reused: int = 0, folder: Path | None = None) -> None:
    """Print a table per target and plan on stdout (never ranked together), what was gained, how it was measured."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None)
    if not measurements:
        console.print("nothing was measured")
        return
    shown = list(zip(rows(measurements), measurements, strict=True))
    several = len({m.target for m in measurements}) > 1
    notes = []
    for group in dict.fromkeys((row.target, row.plan) for row, _ in shown):
        heading = ", ".join(part for part in (group[0] if several else "", group[1]) if part)
        if heading:
            console.print(Text(plain(heading), style="bold"))
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("artifact", overflow="fold")
        for name in (metric_name(measurements), "drop pp", "p50 ms", "p90 ms", "kB", "mem MB", "budget"):
            table.add_column(name, justify="right", no_wrap=True)
        for row, m in shown:
            if (row.target, row.plan) != group:
                continue
            cells = [row.artifact, row.accuracy, row.drop, row.p50, row.p90, row.size, row.memory, row.verdict]
            table.add_row(*(Text(plain(cell)) for cell in cells), style="dim" if m.invalid else None)
            where = f"{row.artifact} on {row.target}" if several else row.artifact
            notes += [f"{where}: {note}" for note in row.notes if note != row.plan]
        console.print(table)
    lines = [*ratios(measurements), *notes, *facts(measurements)]
    if reused:
        lines.append(f"{reused} reused from before")
    if folder:
        lines.append(f"in {folder}: edgekit compare {folder} shows this again")
    for line in lines:
        console.print(Text(plain(line), style="dim"))
