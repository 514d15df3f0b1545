"""Measurements → a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.core.measurement import Measurement
from edgekit.report.advice import advice
from edgekit.report.best import best
from edgekit.report.rows import EMPTY_CELL, facts, metric_name, printable, ratios, rows

if TYPE_CHECKING:
    from edgekit.workflows.compare.limits import Gate

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


SIGNS = {"passed": "✅ passed", "failed": "❌ failed", "undecided": "➖ undecided"}


def markdown(measurements: Sequence[Measurement], gates: Sequence[Gate] = ()) -> str:
    """The verdicts of gates, if any, the table, the gains, and how it was measured."""
    titles = {**COLUMNS, "accuracy": metric_name(measurements)}
    lines = [f"| {' | '.join(map(_cell, titles.values()))} |", f"|{'|'.join('---' for _ in COLUMNS)}|"]
    notes = []
    marks = best(measurements)
    for i, row in enumerate(rows(measurements)):
        bold = {"p50": i in marks.fastest, "accuracy": i in marks.most_accurate}
        cells = (
            f"**{_cell(getattr(row, name))}**" if bold.get(name) else _cell(getattr(row, name)) for name in COLUMNS
        )
        lines.append(f"| {' | '.join(cells)} |")
        notes += [f"{row.artifact}: {note}" for note in row.notes]
    lines.append("")
    if marks.fastest:
        notes.insert(0, "Bold: the best on its device; fastest, or no significant difference from it (99 % CI)")
    lines += _advice(measurements)
    lines += [f"- {_cell(line)}" for line in (*ratios(measurements), *notes, *facts(measurements))]
    return "\n".join([*_verdicts(gates), *lines]) + "\n"


def _advice(measurements: Sequence[Measurement]) -> list[str]:
    """What to ship on each device: a paragraph and a list."""
    lines = []
    for item in advice(measurements):
        lines += [f"**{_cell(item.ship[0])}** {' '.join(map(_cell, item.ship[1:]))}".rstrip(), ""]
        unproven = [f"Not proven: {text}" for text in item.unproven]
        lines += [*(f"- {_cell(line)}" for line in (*item.costs, *unproven)), ""]
    return lines


def _verdicts(gates: Sequence[Gate]) -> list[str]:
    if not gates:
        return []
    lines = ["| gate | artifact | target | before | now | change | verdict |", "|---|---|---|---|---|---|---|"]
    for gate in sorted(gates, key=lambda gate: gate.state != "failed"):
        change = f"{gate.change:+.2f} {gate.unit}" if gate.change is not None else EMPTY_CELL
        verdict = SIGNS[gate.state] + (f": {gate.why}" if gate.why else "")
        cells = (f"`{gate.limit}`", gate.artifact, gate.target, gate.before, gate.after, change, verdict)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    """Text escaped for a table cell and for rendered HTML."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
