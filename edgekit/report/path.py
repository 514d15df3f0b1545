"""Compression chains as paths: the effect of each step on accuracy, latency and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.core.measurement import Measurement
from edgekit.report.lineage import Lineage, RunDetails
from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import Scope, scopes
from edgekit.report.style import safe

#: a chain with one of these steps, or with a teacher, is drawn as a path
CHANGING = ("prune", "qat")


def section(measurements: Sequence[Measurement], details: RunDetails) -> str:
    """One picture per target and metric; "" without such chains."""
    parts = []
    for number, (scope, scoped) in enumerate(scopes(measurements).items()):
        chains = paths(scoped, details.lineages)
        if chains:
            parts.append(f"<h3>{safe(scope.target)}</h3>{_pictures(scope, chains, number)}")
    if not parts:
        return ""
    about = "From a chain's float network, or its teacher, to its last artifact; sizes are file sizes."
    return f'<section id="path"><h2>Compression path</h2><p>{about}</p>{"".join(parts)}</section>'


def paths(measurements: Sequence[Measurement], lineages: Mapping[str, Lineage]) -> list[list[Measurement]]:
    """The measured steps of each chain that changes a network.

    An artifact measured in several runtimes is represented by its fastest valid measurement; by an invalid one, drawn
    grey, if there is no other.
    """
    best_by_id: dict[str, Measurement] = {}
    for m in measurements:
        other = best_by_id.get(m.id)
        if m.latency_ms and (other is None or _rank(m) < _rank(other)):
            best_by_id[m.id] = m
    parents = {name for m in best_by_id.values() for name in m.parents}
    chains = []
    for m in best_by_id.values():
        links = lineages[m.id].links if m.id in lineages else ()
        changed = any(link.step in CHANGING or "teacher" in link.fields for link in links)
        steps = [best_by_id[link.id] for link in links if link.id in best_by_id]
        if changed and m.artifact not in parents and len(steps) > 2:
            chains.append(steps)
    return chains


def _pictures(scope: Scope, chains: Sequence[Sequence[Measurement]], number: int) -> str:
    points = list({id(m): m for path in chains for m in path}.values())
    wide, narrow = (inline(scope, points, width, f"path{number}-{width}", chains) for width in (WIDE, NARROW))
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def _rank(m: Measurement) -> tuple[bool, float]:
    return bool(m.invalid), m.latency_ms.p50 if m.latency_ms else float("inf")
