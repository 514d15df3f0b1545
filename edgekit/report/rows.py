"""The cells every report shows, from measurements; and which rows may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.types import Measurement


@dataclass(frozen=True)
class Row:
    """One measurement as text. `notes` are what a reader must know before believing it."""

    artifact: str
    target: str
    runtime: str
    accuracy: str
    drop: str
    p50: str
    p90: str
    size: str
    weights: str
    memory: str
    verdict: str
    notes: tuple[str, ...]


def rows(measurements: Sequence[Measurement]) -> list[Row]:
    return [_row(m) for m in measurements]


def _row(m: Measurement) -> Row:
    metric, latency = m.metric, m.latency_ms
    memory = m.peak_rss_bytes - m.floor_rss_bytes if m.peak_rss_bytes and m.floor_rss_bytes else None
    return Row(
        artifact=m.artifact,
        target=m.target,
        runtime=m.runtime,
        accuracy=f"{metric.value:.2%}" if metric else "-",
        drop=f"{metric.drop_pp:+.2f}" if metric and metric.drop_pp is not None else "-",
        p50=number(latency.p50) if latency else "-",
        p90=number(latency.p90) if latency else "-",
        size=f"{m.size_bytes / 1000:.1f}",
        weights=f"{m.weight_bytes / 1000:.1f}",
        memory=f"{memory / 1e6:.1f}" if memory is not None else "-",
        verdict=m.verdict.state if m.verdict else "-",
        notes=_notes(m),
    )


def number(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.4f}"


def _notes(m: Measurement) -> tuple[str, ...]:
    notes = [f"invalid: {reason}" for reason in m.invalid]
    if m.verdict and m.verdict.state == "undecided" and m.verdict.samples_to_decide:
        notes.append(f"about {m.verdict.samples_to_decide:,} samples would decide {m.verdict.budget_pp:g} pp")
    if m.provenance != "measured":
        notes.append(m.provenance)
    return tuple(notes)


def ratios(measurements: Sequence[Measurement]) -> list[str]:
    """For each compressed artifact, what it gained over its own float parent: weights, file, p50."""
    found = []
    floats = {(m.artifact, m.target): m for m in measurements}
    for m in measurements:
        parent = floats.get((m.parents[0], m.target)) if m.parents else None
        if parent is None or m.precision == parent.precision or parent.format != m.format:
            continue
        weights = parent.weight_bytes / max(1, m.weight_bytes)
        text = f"{m.artifact} against {parent.artifact}: weights {weights:.2f} times smaller"
        text += f", file {parent.size_bytes / m.size_bytes:.2f} times smaller"
        if m.latency_ms and parent.latency_ms and not m.invalid and not parent.invalid:
            ratio = parent.latency_ms.p50 / m.latency_ms.p50
            faster = f"{ratio:.2f} times faster" if ratio >= 1 else f"{1 / ratio:.2f} times SLOWER"
            text += f", p50 {faster}"
        found.append(text)
    return found


def facts(measurements: Sequence[Measurement]) -> list[str]:
    """A line per target: what it is and how it was measured."""
    found = {}
    for m in measurements:
        latency = m.latency_ms
        how = f"{latency.processes} processes, {latency.threads} thread(s), batch {latency.batch}" if latency else ""
        found[m.target] = (
            f"{m.target}: {m.facts.get('cpu', '?')}, {m.facts.get('cores', '?')} cores, {m.provenance}; {how}"
        )
    return list(found.values())
