"""The cells every report shows, from measurements; and which rows may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Measurement, Metric
from edgekit.core.statistics import latency_ratio

#: What a cell shows where nothing was measured.
NOTHING = "-"
#: Beyond these no axis is readable; such values stay in the table and out of the picture.
LARGEST = 1e15


@dataclass(frozen=True)
class Row:
    """One measurement as text, NOTHING where there is no figure; every `…_ci` is a 95 % interval.

    `notes` are what a reader must know before believing the row.
    """

    artifact: str
    target: str
    runtime: str
    precision: str
    scheme: str
    accuracy: str
    accuracy_ci: str
    drop: str
    drop_ci: str
    p50: str
    p50_ci: str
    p90: str
    p99: str
    load: str
    memory: str
    floor: str
    size: str
    weights: str
    graph: str
    metadata: str
    parity: str
    verdict: str
    budget: str
    #: threads and batch, where the rows do not all have the same
    plan: str
    notes: tuple[str, ...]


def rows(measurements: Sequence[Measurement]) -> list[Row]:
    """The rows, in order. Where they were not all measured with the same threads and batch, each says its own."""
    several = len({_plan(m) for m in measurements if m.latency_ms}) > 1
    return [_row(m, several) for m in measurements]


def _row(m: Measurement, several_plans: bool) -> Row:
    metric, latency = m.metric, m.latency_ms
    drop = metric.drop_pp if metric else None
    drop_ci = metric.drop_ci95 if metric else None
    used = memory(m)
    return Row(
        artifact=m.artifact,
        target=m.target,
        runtime=m.runtime,
        precision=m.precision or NOTHING,
        scheme=m.scheme or NOTHING,
        accuracy=metric_text(metric, metric.value) if metric else NOTHING,
        accuracy_ci=f"{metric_text(metric, metric.ci95[0])} to {metric_text(metric, metric.ci95[1])}" if metric else "",
        drop=f"{drop:+.2f}" if drop is not None else NOTHING,
        drop_ci=f"{drop_ci[0]:+.2f} to {drop_ci[1]:+.2f}" if drop_ci else "",
        p50=number(latency.p50) if latency else NOTHING,
        p50_ci=f"{number(latency.ci95[0])} to {number(latency.ci95[1])}" if latency else "",
        p90=number(latency.p90) if latency else NOTHING,
        p99=number(latency.p99) if latency else NOTHING,
        load=number(m.load_ms) if m.load_ms is not None else NOTHING,
        memory=f"{used / 1e6:.1f}" if used is not None else NOTHING,
        floor=f"{m.floor_rss_bytes / 1e6:.1f}" if m.floor_rss_bytes else NOTHING,
        size=kilobytes(m.size_bytes),
        weights=kilobytes(m.weight_bytes),
        graph=kilobytes(m.graph_bytes),
        metadata=kilobytes(m.metadata_bytes),
        parity=f"{m.parity.sqnr_db:.1f}" if m.parity else NOTHING,
        verdict=m.verdict.state if m.verdict else NOTHING,
        budget=f"{m.verdict.budget_pp:g} pp on {m.verdict.set}" if m.verdict else "",
        plan=_plan(m) if several_plans else "",
        notes=(*_notes(m), *([_plan(m)] if several_plans and latency else [])),
    )


def plain(text: str) -> str:
    """Text from outside on one line, without control characters: a name may come from anyone's results file."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def number(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    if not math.isfinite(value) or value >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if value >= 0.001 else f"{value:.4f}"


def kilobytes(count: int) -> str:
    """1000 bytes each, one decimal."""
    return f"{count / 1000:.1f}"


def metric_text(metric: Metric, value: float) -> str:
    """A value of this metric: fractions as per cent, anything else as a number with its unit."""
    if metric.unit == "fraction":
        return f"{value:.2%}"
    return f"{value:.4g} {metric.unit}".strip()


def metric_name(measurements: Sequence[Measurement]) -> str:
    """What the quality column is called: the metric, where all measurements share one."""
    names = {m.metric.name for m in measurements if m.metric}
    return names.pop() if len(names) == 1 else "metric"


def memory(m: Measurement) -> int | None:
    """What the model added to the process: its peak above the runtime's own floor."""
    return m.peak_rss_bytes - m.floor_rss_bytes if m.peak_rss_bytes and m.floor_rss_bytes else None


def _plan(m: Measurement) -> str:
    """What a latency was measured with."""
    return f"{_count(m.latency_ms.threads, 'thread')}, batch {m.latency_ms.batch}" if m.latency_ms else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _notes(m: Measurement) -> tuple[str, ...]:
    notes = [f"invalid: {reason}" for reason in m.invalid]
    if m.verdict and m.verdict.state == "undecided" and m.verdict.samples_to_decide:
        notes.append(f"about {m.verdict.samples_to_decide:,} samples would decide {m.verdict.budget_pp:g} pp")
    if m.facts.get("precision", "f32") != "f32":
        notes.append(f"float computed in {m.facts['precision']}")
    if m.provenance != "measured":
        notes.append(m.provenance)
    if instructions := m.facts.get("instructions"):
        notes.append(f"{instructions / 1e6:,.3g} M instructions, simulated")
    return tuple(notes)


@dataclass(frozen=True)
class Scope:
    """What rows must share before their figures say anything about each other."""

    target: str
    cpu: str
    metric: str
    unit: str
    higher_is_better: bool
    samples: int
    set_sha256: str
    threads: int
    batch: int

    def __str__(self) -> str:
        over = f"{self.metric} over {self.samples:,} samples of set {self.set_sha256[:8]}"
        how = f"batch {self.batch}", _count(self.threads, "thread")
        return ", ".join(part for part in (self.cpu, over, *how) if part)


def scopes(measurements: Sequence[Measurement]) -> dict[Scope, list[Measurement]]:
    """Rows with a metric and a latency, by what makes them comparable, in order of appearance."""
    found: dict[Scope, list[Measurement]] = {}
    for m in measurements:
        metric, latency = m.metric, m.latency_ms
        if metric is None or latency is None:
            continue
        if not drawable(metric.value) or not 0 <= latency.p50 < LARGEST:
            continue
        scope = Scope(
            m.target,
            str(m.facts.get("cpu", "")),
            metric.name,
            metric.unit,
            metric.higher_is_better,
            metric.samples,
            metric.set_sha256,
            latency.threads,
            latency.batch,
        )
        found.setdefault(scope, []).append(m)
    return found


def drawable(value: float) -> bool:
    """A number an axis can hold; not NaN, not infinite."""
    return abs(value) < LARGEST


@dataclass(frozen=True)
class Gain:
    """How many times smaller and faster a compressed artifact is than `against`; below 1: larger, slower.

    None where one of the two has no such figure, or an invalid one. `p50_ci` is the 99 % interval of the p50 ratio: a
    difference is called only where it leaves out 1.
    """

    artifact: str
    against: str
    target: str
    weights: float | None
    file: float | None
    p50: float | None
    p50_ci: tuple[float, float] = (0.0, math.inf)
    accuracy: str = ""
    plan: str = ""

    def parts(self) -> Iterator[tuple[str, str, bool]]:
        """What changed, by how much in words, and whether it got worse."""
        for name, value, better, worse in (
            ("weights", self.weights, "smaller", "LARGER"),
            ("file", self.file, "smaller", "LARGER"),
            ("p50", self.p50, "faster", "SLOWER"),
        ):
            if value is None:
                continue
            bad = value < 1
            if name == "p50" and self.p50_ci[0] <= 1 <= self.p50_ci[1]:
                yield name, "not told apart from it", False
            else:
                yield name, f"{1 / value if bad else value:.2f} times {worse if bad else better}", bad

    def sentence(self, several_targets: bool) -> str:
        changes = ", ".join([*(f"{name} {text}" for name, text, _ in self.parts()), *filter(None, [self.accuracy])])
        where = f" on {self.target}" if several_targets else ""
        return f"{self.artifact} against {self.against}{where}{f' ({self.plan})' if self.plan else ''}: {changes}"


def gains(measurements: Sequence[Measurement]) -> list[Gain]:
    """For each compressed artifact, what it gained over its own float parent: weights, file, p50."""
    found = []
    several_plans = len({_plan(m) for m in measurements if m.latency_ms}) > 1
    for position, m in enumerate(measurements):
        parent = _parent(position, measurements)
        if parent is None or m.precision == parent.precision or parent.format != m.format:
            continue
        fair = not (m.invalid or parent.invalid) and m.provenance == parent.provenance
        ours, theirs = (m.latency_ms, parent.latency_ms) if fair else (None, None)
        p50, p50_ci = None, (0.0, math.inf)
        if ours and theirs and (ours.batch, ours.threads) == (theirs.batch, theirs.threads):
            ratio = latency_ratio(theirs, ours, paired=m.session == parent.session)
            p50, p50_ci = ratio.value, ratio.ci99
        weights, file = _ratio(parent.weight_bytes, m.weight_bytes), _ratio(parent.size_bytes, m.size_bytes)
        if (weights, file, p50) != (None, None, None):
            found.append(
                Gain(
                    m.artifact,
                    parent.artifact,
                    m.target,
                    weights,
                    file,
                    p50,
                    p50_ci,
                    _accuracy(m.metric),
                    _plan(m) if several_plans else "",
                )
            )
    return found


def _accuracy(metric: Metric | None) -> str:
    """What the paired test says of the change against the chain's float root: called at p < 0.01 only."""
    if metric is None or metric.drop_p is None or metric.drop_pp is None:
        return ""
    if metric.drop_p >= 0.01:
        return f"{metric.name} not told apart from {metric.against}'s (p {metric.drop_p:.2g})"
    return f"{metric.name} {abs(metric.drop_pp):.2f} points {'LOWER' if metric.drop_pp > 0 else 'higher'}"


def _ratio(before: float, after: float) -> float | None:
    return before / after if 0 < before < math.inf and 0 < after < math.inf else None


def _parent(position: int, measurements: Sequence[Measurement]) -> Measurement | None:
    """The row of the parent, on the same target. Runs shown together may use the same names for other models:
    so one with the same test set wins, then the same threads and batch, the same session, the nearest in the list.
    """
    m = measurements[position]
    if not m.parents:
        return None
    set_of = m.metric.set_sha256 if m.metric else None
    rivals = [
        (i, p) for i, p in enumerate(measurements) if (p.artifact, p.target) == (m.parents[0], m.target) and p is not m
    ]

    def distance(rival: tuple[int, Measurement]) -> tuple[bool, bool, bool, bool, int]:
        i, p = rival
        other_set = (p.metric.set_sha256 if p.metric else None) != set_of
        return other_set, _plan(p) != _plan(m), p.session != m.session, p.runtime != m.runtime, abs(i - position)

    return min(rivals, key=distance)[1] if rivals else None


def ratios(measurements: Sequence[Measurement]) -> list[str]:
    """`gains` as sentences."""
    several = len({m.target for m in measurements}) > 1
    return [gain.sentence(several) for gain in gains(measurements)]


def facts(measurements: Sequence[Measurement]) -> list[str]:
    """A line per target and way of measuring: what it is and how it was measured."""
    found: dict[str, None] = {}
    latencies = {m.target for m in measurements if m.latency_ms}
    for m in measurements:
        if m.latency_ms is None and m.target in latencies:
            continue
        how = f"{m.latency_ms.processes} processes, {_plan(m)}" if m.latency_ms else ""
        line = f"{m.target}: {m.facts.get('cpu', '?')}, {m.facts.get('cores', '?')} cores, {m.provenance}"
        found["; ".join(part for part in (line, how) if part)] = None
    return list(found)
