"""The layer report as text: all operators, the first that diverges, the most sensitive."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.core.statistics import MAX_DB
from edgekit.report import tables

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.workflows.inspect.layers import LayerReport

#: characters of a name and of a type that are shown
NAME, TYPE = 43, 15
MOST_SENSITIVE = 5


def table(report: LayerReport) -> Iterator[str | Table]:
    """What `tables.show` prints: all operators in graph order, the first that diverges, the most sensitive."""
    if report.why:
        yield from wrapped(diverging(report))
        return
    layers = tables.table(*map(tables.words, ("layer", "type")), *map(tables.numbers, ("dB", "lost here")))
    for layer in report.layers:
        lost = f"{layer.lost_db:.1f}" if layer.lost_db >= 0.05 else ""
        name, kind = _middle(layer.name or layer.tensor, NAME), _end(layer.type, TYPE)
        tables.add(layers, name, kind, _decibels(layer.sqnr_db), lost)
    yield layers
    yield f"against {report.against}, over {report.samples} samples"
    yield from wrapped(diverging(report))
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


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, tables.WIDTH, break_on_hyphens=False)


def sensitive(report: LayerReport) -> Iterator[str | Table]:
    """The operators that add the most noise, one per row."""
    chosen = report.sensitive[:MOST_SENSITIVE]
    if not chosen:
        return
    yield "most sensitive, by own noise (the SQNR in dB with exact inputs)"
    ranked = tables.table(tables.words(), tables.words(), tables.numbers())
    for place, layer in enumerate(chosen, 1):
        tables.add(ranked, f"  {place}.", _middle(layer.name, NAME + TYPE), _decibels(layer.own_db))
    yield ranked


def _decibels(value: float) -> str:
    if abs(value) < MAX_DB:
        return f"{value:.1f}"
    return "exact" if value > 0 else "nothing"


def _middle(text: str, room: int) -> str:
    """A long name keeps both ends: its module, and its place in the module."""
    head = 3 * room // 8
    return text if len(text) <= room else f"{text[:head]}…{text[head + 1 - room :]}"


def _end(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
