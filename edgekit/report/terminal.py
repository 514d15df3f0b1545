"""Measurements → a table that fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.report.rows import facts, ratios, rows
from edgekit.types import Measurement


def terminal(measurements: Sequence[Measurement], reused: int = 0, folder: Path | None = None) -> None:
    """Print the comparison table on stdout, then what was gained, then how it was measured."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None)
    if not measurements:
        console.print("nothing was measured")
        return
    several = len({m.target for m in measurements}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("artifact", *(("target",) if several else ())):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "drop pp", "p50 ms", "p90 ms", "kB", "mem MB", "budget"):
        table.add_column(name, justify="right", no_wrap=True)
    notes = []
    for row, m in zip(rows(measurements), measurements, strict=True):
        cells = [row.artifact, *([row.target] if several else [])]
        cells += [row.accuracy, row.drop, row.p50, row.p90, row.size, row.memory, row.verdict]
        table.add_row(*map(Text, cells), style="dim" if m.invalid else None)
        notes += [f"{row.artifact}: {note}" for note in row.notes]
    console.print(table)
    lines = [*ratios(measurements), *notes, *facts(measurements)]
    if reused:
        lines.append(f"{reused} reused from before")
    if folder:
        lines.append(f"in {folder}: edgekit compare {folder} shows this again")
    for line in lines:
        console.print(Text(line, style="dim"))
