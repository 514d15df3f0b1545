"""Gates → a table for a terminal, failed ones first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.core.printable import printable
from edgekit.report import tables
from edgekit.report.gates import row_name, summary
from edgekit.report.rows import EMPTY_CELL

if TYPE_CHECKING:
    from edgekit.workflows.compare.limits import Gate

STYLES = {"failed": "bold red", "undecided": "yellow", "passed": "green"}


def verdicts(gates: Sequence[Gate]) -> None:
    """Print how many passed, each gate's verdict, and below the table the reasons of failed and undecided ones."""
    from rich.text import Text

    columns = [
        *map(tables.words, ("gate", "artifact")),
        *(tables.numbers(head, spare=True) for head in ("before", "now")),
    ]
    table = tables.table(*columns, *map(tables.numbers, ("change", "verdict")))
    several = len({gate.target for gate in gates}) > 1
    names = {id(gate): row_name(gate, gates) + (f" on {gate.target}" if several else "") for gate in gates}
    for gate in sorted(gates, key=lambda gate: list(STYLES).index(gate.state)):
        change = f"{gate.change:+.2f} {gate.unit}" if gate.change is not None else EMPTY_CELL
        cells = (gate.limit, names[id(gate)], gate.before, gate.after, change)
        tables.add(table, *cells, Text(gate.state, style=STYLES[gate.state]))
    reasons = dict.fromkeys(f"{names[id(gate)]}, {gate.limit}: {gate.why}" for gate in gates if gate.why)
    tables.show(
        ["", Text(summary(gates), style="bold"), table, *(Text(printable(reason), style="dim") for reason in reasons)]
    )
