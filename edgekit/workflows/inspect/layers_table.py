"""The layer report as text: all operators, the first that diverges, the most sensitive."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.core.statistics import MAX_DB

if TYPE_CHECKING:
    from edgekit.workflows.inspect.layers import LayerReport

WIDTH = 80
NAME, TYPE, NUMBER, LOST = 45, 17, 7, 11
MOST_SENSITIVE = 5


def table(report: LayerReport) -> Iterator[str]:
    """At most 80 columns wide: all operators in graph order, the first that diverges, the most sensitive."""
    if report.why:
        yield from diverging(report)
        return
    yield f"{'layer':<{NAME}}{'type':<{TYPE}}{'dB':>{NUMBER}}{'lost here':>{LOST}}"
    for layer in report.layers:
        lost = f"{layer.lost_db:.1f}" if layer.lost_db >= 0.05 else ""
        name, kind = _middle(layer.name or layer.tensor, NAME - 2), _end(layer.type, TYPE - 2)
        yield f"{name:<{NAME}}{kind:<{TYPE}}{_decibels(layer.sqnr_db):>{NUMBER}}{lost:>{LOST}}".rstrip()
    yield f"against {report.against}, over {report.samples} samples"
    yield from diverging(report)
    yield from sensitive(report)


def diverging(report: LayerReport, indent: int = 0) -> list[str]:
    """One sentence about the first operator that diverges."""
    if report.why:
        text = f"not compared layer by layer: {report.why}"
    elif (layer := report.first_diverging) is None:
        text = "no operator diverges"
    else:
        before = "exact inputs" if layer.inputs_db >= MAX_DB else f"{_decibels(layer.inputs_db)} dB"
        name = f"{layer.type} {layer.name or layer.tensor}"
        text = f"first to diverge: {name}, {_decibels(layer.sqnr_db)} dB after {before}"
    margin = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def sensitive(report: LayerReport) -> Iterator[str]:
    """The operators that add the most noise, one per line."""
    chosen = report.sensitive[:MOST_SENSITIVE]
    if chosen:
        yield "most sensitive, by own noise (the SQNR in dB with exact inputs)"
    for place, layer in enumerate(chosen, 1):
        text = f"  {place}. {_middle(layer.name, NAME + TYPE - 7)}"
        yield f"{text:<{NAME + TYPE}}{_decibels(layer.own_db):>{NUMBER}}"


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
