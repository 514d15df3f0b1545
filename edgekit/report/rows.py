"""The table cells shared by all reports, gains over the parent, and which measurements are comparable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Measurement, Metric, plan_text
from edgekit.core.statistics import latency_ratio

#: A cell without a measured value.
EMPTY_CELL = "-"
#: A change of the metric is significant at a smaller p.
SIGNIFICANT = 0.01
#: Larger values are shown in the table but not drawn.
MAX_DRAWABLE = 1e15


@dataclass(frozen=True)
class Row:
    """One measurement as text, EMPTY_CELL if not measured; every `…_ci` is a 95 % interval.

    `notes` are caveats of the row.
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
    neighbours: str
    verdict: str
    budget: str
    #: threads and batch, if they differ between rows
    plan: str
    notes: tuple[str, ...]
    #: of a model that generates text
    first_token: str = EMPTY_CELL
    first_token_ci: str = ""
    tokens_per_second: str = EMPTY_CELL
    tokens_per_second_ci: str = ""
    cache: str = EMPTY_CELL


def rows(measurements: Sequence[Measurement]) -> list[Row]:
    """The rows, in order, each with its threads and batch if these differ."""
    several_plans = len({_plan(m) for m in measurements if m.latency_ms}) > 1
    return [_row(m, several_plans) for m in measurements]


def _row(m: Measurement, several_plans: bool) -> Row:
    metric, latency = m.metric, m.latency_ms
    drop = metric.drop_pp if metric else None
    drop_ci = metric.drop_ci95 if metric else None
    used = memory(m)
    return Row(
        artifact=m.artifact,
        target=m.target,
        runtime=m.runtime,
        precision=m.precision or EMPTY_CELL,
        scheme=m.scheme or EMPTY_CELL,
        accuracy=metric_text(metric, metric.value) if metric else EMPTY_CELL,
        accuracy_ci=f"{metric_text(metric, metric.ci95[0])} to {metric_text(metric, metric.ci95[1])}" if metric else "",
        drop=f"{drop:+.2f}" if drop is not None else EMPTY_CELL,
        drop_ci=f"{drop_ci[0]:+.2f} to {drop_ci[1]:+.2f}" if drop_ci else "",
        p50=number(latency.p50) if latency else EMPTY_CELL,
        p50_ci=f"{number(latency.ci95[0])} to {number(latency.ci95[1])}" if latency else "",
        p90=number(latency.p90) if latency else EMPTY_CELL,
        p99=number(latency.p99) if latency else EMPTY_CELL,
        load=number(m.load_ms) if m.load_ms is not None else EMPTY_CELL,
        memory=f"{used / 1e6:.1f}" if used is not None else EMPTY_CELL,
        floor=f"{m.floor_rss_bytes / 1e6:.1f}" if m.floor_rss_bytes else EMPTY_CELL,
        size=kilobytes(m.size_bytes),
        weights=kilobytes(m.weight_bytes),
        graph=kilobytes(m.graph_bytes),
        metadata=kilobytes(m.metadata_bytes),
        parity=f"{m.parity.sqnr_db:.1f}" if m.parity else EMPTY_CELL,
        neighbours=f"{m.parity.neighbour_agreement:.1%}"
        if m.parity and m.parity.neighbour_agreement is not None
        else EMPTY_CELL,
        verdict=m.verdict.state if m.verdict else EMPTY_CELL,
        budget=f"{m.verdict.budget_pp:g} pp on {m.verdict.set}" if m.verdict else "",
        plan=_plan(m) if several_plans else "",
        notes=(*_notes(m), *([_plan(m)] if several_plans and latency else [])),
        **_generation(m),
    )


def _generation(m: Measurement) -> dict[str, str]:
    if m.generation is None:
        return {}
    first, token = m.generation.first_token_ms, m.generation.token_ms
    slowest, fastest = (1e3 / max(end, 1e-9) for end in reversed(token.ci95))
    return {
        "first_token": number(first.p50),
        "first_token_ci": f"{number(first.ci95[0])} to {number(first.ci95[1])}",
        "tokens_per_second": number(m.generation.tokens_per_second),
        "tokens_per_second_ci": f"{number(slowest)} to {number(fastest)}",
        "cache": kilobytes(m.generation.cache_bytes),
    }


def number(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    if not math.isfinite(value) or value >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if value >= 0.001 else f"{value:.4f}"


def kilobytes(count: int) -> str:
    """1000 bytes each, one decimal."""
    return f"{count / 1000:.1f}"


def metric_text(metric: Metric, value: float) -> str:
    """A value of this metric: fractions in per cent, others as a number with its unit."""
    if metric.unit == "fraction":
        return f"{value:.2%}"
    return f"{value:.4g} {metric.unit}".strip()


def drop_unit(metric: Metric | None) -> str:
    """The unit of a drop and of its budget: points for a fraction, else per cent of the reference's value."""
    return "points" if metric is None or metric.unit == "fraction" else "%"


def change(drop: float, unit: str) -> str:
    """ "drop 0.30 pp"; a negative drop is a gain: "gain 0.10 pp"."""
    return f"{'gain' if round(drop, 2) < 0 else 'drop'} {abs(drop):.2f} {unit}"


def change_interval(drop: float, interval: Sequence[float]) -> str:
    """The interval of what `change` says: of the gain, if it is one."""
    low, high = (-interval[1], -interval[0]) if round(drop, 2) < 0 else interval
    return f"{low:+.2f} to {high:+.2f}"


def metric_name(measurements: Sequence[Measurement]) -> str:
    """The title of the quality column: the metric's name, if all measurements have the same."""
    names = {m.metric.name for m in measurements if m.metric}
    return names.pop() if len(names) == 1 else "metric"


def memory(m: Measurement) -> int | None:
    """The model's memory: the process's peak minus the runtime's baseline."""
    return m.peak_rss_bytes - m.floor_rss_bytes if m.peak_rss_bytes and m.floor_rss_bytes else None


def _plan(m: Measurement) -> str:
    """Threads and batch of the latency, and the tokens of a request."""
    return plan_text(*m.latency_ms.plan) if m.latency_ms else ""


def _notes(m: Measurement) -> tuple[str, ...]:
    notes = [f"invalid: {reason}" for reason in m.invalid]
    if m.verdict and m.verdict.state == "undecided" and m.verdict.samples_to_decide:
        notes.append(f"about {m.verdict.samples_to_decide:,} samples would decide {m.verdict.budget_pp:g} pp")
    if m.facts.get("precision", "f32") != "f32":
        notes.append(f"float computed in {m.facts['precision']}")
    if m.provenance != "measured":
        notes.append(m.provenance)
    if m.latency_ms and m.latency_ms.clock == "cpu":
        notes.append("CPU time: other programs used the core")
    if instructions := m.facts.get("instructions"):
        notes.append(f"{instructions / 1e6:,.3g} M instructions, simulated")
    return tuple(notes)


def common_notes(all_rows: Sequence[Row]) -> list[str]:
    """The notes that every row has, if there are several rows: the page gives them once."""
    if len(all_rows) < 2:
        return []
    return [note for note in all_rows[0].notes if all(note in row.notes for row in all_rows)]


@dataclass(frozen=True)
class Scope:
    """What measurements must have in common to be comparable."""

    target: str
    cpu: str
    metric: str
    unit: str
    higher_is_better: bool
    samples: int
    set_sha256: str
    threads: int
    batch: int
    prompt: int = 0
    new_tokens: int = 0

    def __str__(self) -> str:
        data = f"{self.metric} over {self.samples:,} samples of set {self.set_sha256[:8]}"
        plan = plan_text(self.threads, self.batch, self.prompt, self.new_tokens)
        return ", ".join(part for part in (self.cpu, data, plan) if part)


def scopes(measurements: Sequence[Measurement]) -> dict[Scope, list[Measurement]]:
    """Measurements with a metric and a latency, grouped by scope, in order of appearance."""
    measurements_by_scope: dict[Scope, list[Measurement]] = {}
    for m in measurements:
        metric, latency = m.metric, m.latency_ms
        if metric is None or latency is None:
            continue
        if not drawable(metric.value) or not 0 <= latency.p50 < MAX_DRAWABLE:
            continue
        scope = Scope(
            m.target,
            str(m.facts.get("cpu", "")),
            metric.name,
            metric.unit,
            metric.higher_is_better,
            metric.samples,
            metric.set_sha256,
            *latency.plan,
        )
        measurements_by_scope.setdefault(scope, []).append(m)
    return measurements_by_scope


def drawable(value: float) -> bool:
    """Whether an axis can show the value (not NaN, not infinite)."""
    return abs(value) < MAX_DRAWABLE


@dataclass(frozen=True)
class Gain:
    """How many times smaller and faster a compressed artifact is than `against`; below 1: larger, slower.

    None if one of the two has no such value, or an invalid one. `p50_ci` is the 99 % interval of the p50 ratio: a
    difference is reported only if it excludes 1.
    """

    artifact: str
    against: str
    target: str
    weights: float | None
    file: float | None
    p50: float | None
    p50_ci: tuple[float, float] = (0.0, math.inf)
    metric: Metric | None = None
    plan: str = ""
    runtime: str = ""

    def parts(self) -> Iterator[tuple[str, str, bool]]:
        """What changed, by how much in words, and whether it became worse."""
        for name, value, better, worse in (
            ("weights", self.weights, "smaller", "LARGER"),
            ("file", self.file, "smaller", "LARGER"),
            ("p50", self.p50, "faster", "SLOWER"),
        ):
            if value is None:
                continue
            is_worse = value < 1
            if name == "p50" and self.p50_ci[0] <= 1 <= self.p50_ci[1]:
                yield name, "not significantly different (99 % CI)", False
            else:
                yield name, f"{1 / value if is_worse else value:.2f} times {worse if is_worse else better}", is_worse

    def sentence(self, several_targets: bool) -> str:
        changes = ", ".join(
            [*(f"{name} {text}" for name, text, _ in self.parts()), *filter(None, [_accuracy(self.metric)])]
        )
        where = f" on {self.target}" if several_targets else ""
        return f"{self.artifact} against {self.against}{where}{f' ({self.plan})' if self.plan else ''}: {changes}"


def gains(measurements: Sequence[Measurement]) -> list[Gain]:
    """The gain of each compressed artifact over its float parent: weights, file, p50."""
    all_gains = []
    several_plans = len({_plan(m) for m in measurements if m.latency_ms}) > 1
    for position, m in enumerate(measurements):
        parent = parent_of(position, measurements)
        if parent is None or m.precision == parent.precision or parent.format != m.format:
            continue
        comparable = not (m.invalid or parent.invalid) and m.provenance == parent.provenance
        latency, parent_latency = (m.latency_ms, parent.latency_ms) if comparable else (None, None)
        p50, p50_ci = None, (0.0, math.inf)
        if latency and parent_latency and latency.plan == parent_latency.plan:
            ratio = latency_ratio(parent_latency, latency, paired=m.session == parent.session)
            p50, p50_ci = ratio.value, ratio.ci99
        weights, file = _ratio(parent.weight_bytes, m.weight_bytes), _ratio(parent.size_bytes, m.size_bytes)
        if (weights, file, p50) != (None, None, None):
            all_gains.append(
                Gain(
                    m.artifact,
                    parent.artifact,
                    m.target,
                    weights,
                    file,
                    p50,
                    p50_ci,
                    m.metric,
                    _plan(m) if several_plans else "",
                    m.runtime,
                )
            )
    return all_gains


def _accuracy(metric: Metric | None) -> str:
    """The paired test against the chain's float root; a change is reported only if it is significant."""
    if metric is None or metric.drop_p is None or metric.drop_pp is None:
        return ""
    if metric.drop_p >= SIGNIFICANT:
        return f"{metric.name} not significantly different from {metric.against} (p {metric.drop_p:.2g})"
    return f"{metric.name} {metric_change(metric)}"


def metric_change(metric: Metric) -> str:
    """ "0.40 points LOWER": against the chain's float root; for a metric that is not a fraction, in per cent of it.

    "WORSE" if it is not a fraction, or is better when lower.
    """
    assert metric.drop_pp is not None
    worse, better = (
        ("LOWER", "higher") if metric.unit == "fraction" and metric.higher_is_better else ("WORSE", "better")
    )
    return f"{abs(metric.drop_pp):.2f} {drop_unit(metric)} {worse if metric.drop_pp > 0 else better}"


def _ratio(before: float, after: float) -> float | None:
    return before / after if 0 < before < math.inf and 0 < after < math.inf else None


def parent_of(position: int, measurements: Sequence[Measurement]) -> Measurement | None:
    """The parent's measurement on the same target. Runs shown together may use one name for several models: a match in
    test set is preferred, then in threads and batch, then in session, then the nearest in the list.
    """
    m = measurements[position]
    if not m.parents:
        return None
    set_of = m.metric.set_sha256 if m.metric else None
    candidates = [
        (i, p) for i, p in enumerate(measurements) if (p.artifact, p.target) == (m.parents[0], m.target) and p is not m
    ]

    def distance(candidate: tuple[int, Measurement]) -> tuple[bool, bool, bool, bool, int]:
        i, p = candidate
        other_set = (p.metric.set_sha256 if p.metric else None) != set_of
        return other_set, _plan(p) != _plan(m), p.session != m.session, p.runtime != m.runtime, abs(i - position)

    return min(candidates, key=distance)[1] if candidates else None


def ratios(measurements: Sequence[Measurement]) -> list[str]:
    """`gains` as sentences."""
    several_targets = len({m.target for m in measurements}) > 1
    return [gain.sentence(several_targets) for gain in gains(measurements)]


def facts(measurements: Sequence[Measurement]) -> list[str]:
    """A line per target and plan: its processor, and how it was measured."""
    lines: dict[str, None] = {}
    latencies = {m.target for m in measurements if m.latency_ms}
    for m in measurements:
        if m.latency_ms is None and m.target in latencies:
            continue
        plan = f"{m.latency_ms.processes} processes, {_plan(m)}" if m.latency_ms else ""
        line = f"{m.target}: {m.facts.get('cpu', '?')}, {m.facts.get('cores', '?')} cores, {m.provenance}"
        lines["; ".join(part for part in (line, plan) if part)] = None
    return list(lines)
