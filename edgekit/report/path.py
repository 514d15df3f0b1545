"""A chain that makes a network smaller, as a path: what each of its steps did to accuracy, latency and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.lineage import Exhibits, Lineage
from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import Scope, scopes
from edgekit.report.style import safe

#: steps that change a network; with one of them among its steps, or a teacher, a chain has a path
CHANGING = ("prune", "qat")


def section(measurements: Sequence[Measurement], exhibits: Exhibits) -> str:
    """One picture per target and metric; "" where no chain has a path."""
    parts = []
    for number, (scope, found) in enumerate(scopes(measurements).items()):
        drawn = paths(found, exhibits.lineages)
        if drawn:
            parts.append(f"<h3>{safe(scope.target)}</h3>{_pictures(scope, drawn, number)}")
    if not parts:
        return ""
    about = "From the float network that a chain began with, or its teacher, to what it ends with; sizes are of files."
    return f'<section id="path"><h2>The path to a smaller network</h2><p>{about}</p>{"".join(parts)}</section>'


def paths(measurements: Sequence[Measurement], lineages: Mapping[str, Lineage]) -> list[list[Measurement]]:
    """For each artifact that nothing was made from, and in whose making a network was changed: its measured steps.

    Of an artifact that was measured in several runtimes, the fastest valid measurement stands for it; an invalid one,
    drawn grey, only where there is no other.
    """
    best: dict[str, Measurement] = {}
    for m in measurements:
        other = best.get(m.id)
        if m.latency_ms and (other is None or _rank(m) < _rank(other)):
            best[m.id] = m
    parents = {name for m in best.values() for name in m.parents}
    found = []
    for m in best.values():
        links = lineages[m.id].links if m.id in lineages else ()
        changed = any(link.step in CHANGING or "teacher" in link.fields for link in links)
        steps = [best[link.id] for link in links if link.id in best]
        if changed and m.artifact not in parents and len(steps) > 2:
            found.append(steps)
    return found


def _pictures(scope: Scope, drawn: Sequence[Sequence[Measurement]], number: int) -> str:
    points = list({id(m): m for path in drawn for m in path}.values())
    wide, narrow = (inline(scope, points, width, f"path{number}-{width}", drawn) for width in (WIDE, NARROW))
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def _rank(m: Measurement) -> tuple[bool, float]:
    return bool(m.invalid), m.latency_ms.p50 if m.latency_ms else float("inf")
