"""Measurements → a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.report.rows import facts, metric_name, plain, ratios, rows
from edgekit.types import Measurement

COLUMNS = {
    "artifact": "artifact",
    "target": "target",
    "runtime": "runtime",
    "accuracy": "accuracy",
    "drop": "drop, pp",
    "p50": "p50, ms",
    "p90": "p90, ms",
    "size": "file, kB",
    "weights": "weights, kB",
    "memory": "memory, MB",
    "verdict": "budget",
}


def markdown(measurements: Sequence[Measurement]) -> str:
    """The table, then what was gained and how it was measured."""
    titles = {**COLUMNS, "accuracy": metric_name(measurements)}
    lines = [f"| {' | '.join(map(_cell, titles.values()))} |", f"|{'|'.join('---' for _ in COLUMNS)}|"]
    notes = []
    for row in rows(measurements):
        lines.append(f"| {' | '.join(_cell(getattr(row, name)) for name in COLUMNS)} |")
        notes += [f"{row.artifact}: {note}" for note in row.notes]
    lines.append("")
    lines += [f"- {_cell(line)}" for line in (*ratios(measurements), *notes, *facts(measurements))]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that neither ends its cell nor becomes HTML where the Markdown is rendered."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
