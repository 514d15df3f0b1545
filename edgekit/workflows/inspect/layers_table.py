"""Which operators lose what: what was found between an artifact and its float model, as people read it."""

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


def table(found: LayerReport) -> Iterator[str | Table]:
    """What `tables.show` prints: all operators in graph order, the first that diverges, the most sensitive."""
    if found.why:
        yield from wrapped(diverging(found))
        return
    layers = tables.table(*map(tables.words, ("layer", "type")), *map(tables.numbers, ("dB", "lost here")))
    for layer in found.layers:
        lost = f"{layer.lost_db:.1f}" if layer.lost_db >= 0.05 else ""
        name, kind = _middle(layer.name or layer.tensor, NAME), _end(layer.type, TYPE)
        tables.add(layers, name, kind, _decibels(layer.sqnr_db), lost)
    yield layers
    yield f"against {found.against}, over {found.samples} samples"
    yield from wrapped(diverging(found))
    yield from sensitive(found)


def diverging(found: LayerReport) -> str:
    """One sentence about the first operator that diverges."""
    if found.why:
        return f"not compared layer by layer: {found.why}"
    if (layer := found.first) is None:
        return "no operator diverges"
    before = "exact inputs" if layer.inputs_db >= MAX_DB else f"{_decibels(layer.inputs_db)} dB"
    name = f"{layer.type} {layer.name or layer.tensor}"
    return f"first to diverge: {name}, {_decibels(layer.sqnr_db)} dB after {before}"


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, tables.WIDTH, break_on_hyphens=False)


def sensitive(found: LayerReport) -> Iterator[str | Table]:
    """The operators that add most noise, a row each."""
    chosen = found.sensitive[:MOST_SENSITIVE]
    if not chosen:
        return
    yield "most sensitive, by the noise each adds (dB it would have with exact inputs)"
    ranked = tables.table(tables.words(), tables.words(), tables.numbers())
    for place, layer in enumerate(chosen, 1):
        tables.add(ranked, f"  {place}.", _middle(layer.name, NAME + TYPE), _decibels(layer.own_db))
    yield ranked


def _decibels(value: float) -> str:
    if abs(value) < MAX_DB:
        return f"{value:.1f}"
    return "exact" if value > 0 else "nothing"


def _middle(text: str, room: int) -> str:
    """Both ends of a long name tell layers apart: its module, and what it is there."""
    head = 3 * room // 8
    return text if len(text) <= room else f"{text[:head]}…{text[head + 1 - room :]}"


def _end(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
