"""The layer report as text: all operators, the first that diverges, the most sensitive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.core.statistics import MAX_DB
from edgekit.report import tables

if TYPE_CHECKING:
    from edgekit.report.tables import Table
    from edgekit.workflows.inspect.layers import LayerReport

MOST_SENSITIVE = 5


def table(report: LayerReport) -> Iterator[str | Table]:
    """What `tables.show` prints: all operators in graph order, the first that diverges, the most sensitive."""
    if report.why:
        yield diverging(report)
        return
    layers = tables.table(*map(tables.numbers, ("dB", "lost here")), *map(tables.words, ("type", "layer")))
    for layer in report.layers:
        lost = f"{layer.lost_db:.1f}" if layer.lost_db >= 0.05 else ""
        tables.add(layers, _decibels(layer.sqnr_db), lost, layer.type, layer.name or layer.tensor)
    yield layers
    yield f"against {report.against}, over {report.samples} samples"
    yield diverging(report)
    yield from sensitive(report)


def diverging(report: LayerReport) -> str:
    """One sentence about the first operator that diverges."""
    if report.why:
        return f"not compared layer by layer: {report.why}"
    if (layer := report.first_diverging) is None:
        return "no operator diverges"
    before = "exact inputs" if layer.inputs_db >= MAX_DB else f"{_decibels(layer.inputs_db)} dB"
    name = f"{layer.type} {layer.name or layer.tensor}"
    return f"first to diverge: {name}, {_decibels(layer.sqnr_db)} dB after {before}"


def sensitive(report: LayerReport) -> Iterator[str | Table]:
    """The operators that add the most noise, one per row."""
    chosen = report.sensitive[:MOST_SENSITIVE]
    if not chosen:
        return
    yield "most sensitive, by own noise (the SQNR in dB with exact inputs)"
    ranked = tables.table(tables.words(), tables.numbers(), tables.words())
    for place, layer in enumerate(chosen, 1):
        tables.add(ranked, f"  {place}.", _decibels(layer.own_db), layer.name)
    yield ranked


def _decibels(value: float) -> str:
    if abs(value) < MAX_DB:
        return f"{value:.1f}"
    return "exact" if value > 0 else "nothing"
