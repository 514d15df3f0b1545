"""Measurements → a Markdown table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.core.measurement import Measurement
from edgekit.core.printable import printable
from edgekit.report.advice import advice
from edgekit.report.best import best
from edgekit.report.gates import row_name, summary
from edgekit.report.notes import grouped
from edgekit.report.rows import EMPTY_CELL, facts, metric_name, ratios, rows

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


#: what begins emphasis, code, a link or an image; an underscore within a word does not
_MARKUP = re.compile(r"[\\`*\[\]~|$]|(?<!\w)_|_(?!\w)")
#: what begins a heading, a quotation, a list or a fence at the start of a line
_BLOCK = re.compile(r"^(?=[#>+=-])|(?<=^\d)(?=[.)])")
#: what GitHub makes a link of, or notifies somebody by, without any markup: https://…, www.…, @name
_AUTOMATIC = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=(?<!\w)@)(?=\w)", re.IGNORECASE)

SIGNS = {"passed": "✅ passed", "failed": "❌ failed", "undecided": "➖ undecided"}


def markdown(measurements: Sequence[Measurement], gates: Sequence[Gate] = ()) -> str:
    """How many gates passed and their verdicts, if any, the table, the gains, and how it was measured."""
    titles = {**COLUMNS, "accuracy": metric_name(measurements)}
    lines = [f"| {' | '.join(map(inert, titles.values()))} |", f"|{'|'.join('---' for _ in COLUMNS)}|"]
    all_rows = rows(measurements)
    notes = []
    marks = best(measurements)
    for i, row in enumerate(all_rows):
        bold = {"p50": i in marks.fastest, "accuracy": i in marks.most_accurate}
        cells = (
            f"**{inert(getattr(row, name))}**" if bold.get(name) else inert(getattr(row, name)) for name in COLUMNS
        )
        lines.append(f"| {' | '.join(cells)} |")
        notes += [f"{row.artifact}: {row.plan}"] if row.plan in row.notes else []
    lines.append("")
    notes += grouped(all_rows)
    if marks.fastest:
        notes.insert(0, "Bold: the best on its device; fastest, or no significant difference from it (99 % CI)")
    lines += _advice(measurements)
    lines += [f"- {_line(line)}" for line in (*ratios(measurements), *notes, *facts(measurements))]
    return "\n".join([*_verdicts(gates), *lines]) + "\n"


def _advice(measurements: Sequence[Measurement]) -> list[str]:
    """What to ship on each device: a paragraph and a list."""
    lines = []
    for item in advice(measurements):
        lines += [f"**{inert(item.ship[0])}** {' '.join(map(inert, item.ship[1:]))}".rstrip(), ""]
        unproven = [f"Not proven: {text}" for text in item.unproven]
        lines += [*(f"- {_line(line)}" for line in (*item.costs, *unproven)), ""]
    return lines


def _verdicts(gates: Sequence[Gate]) -> list[str]:
    if not gates:
        return []
    lines = [f"**{summary(gates)}**", ""]
    lines += ["| gate | artifact | target | before | now | change | verdict |", "|---|---|---|---|---|---|---|"]
    for gate in sorted(gates, key=lambda gate: gate.state != "failed"):
        change = f"{gate.change:+.2f} {gate.unit}" if gate.change is not None else EMPTY_CELL
        verdict = SIGNS[gate.state] + (f": {gate.why}" if gate.why else "")
        cells = (row_name(gate, gates), gate.target, gate.before, gate.after, change, verdict)
        lines.append(f"| `{gate.limit}` | {' | '.join(map(inert, cells))} |")
    return [*lines, ""]


def _line(text: str) -> str:
    """Text that begins a line, and begins nothing else."""
    return _BLOCK.sub(r"\\", inert(text))


def inert(text: str) -> str:
    """Text that is shown as it is: not a link, an image, a mention or HTML, and within its table cell."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return _AUTOMATIC.sub("<!-- -->", _MARKUP.sub(r"\\\g<0>", text))
