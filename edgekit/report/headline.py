"""The headline of a report: the recommended artifact of each device, compared with its float model in three numbers.

Every number is a measured one. A difference that is not significant is said to be none, and where no int8 artifact is
recommended, the reason is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from edgekit.core.measurement import Measurement
from edgekit.core.statistics import latency_ratio
from edgekit.report.advice import Advice, advice, within_budget
from edgekit.report.best import slower
from edgekit.report.rows import drop_unit, kilobytes, metric_text, number, parent_of, scopes

#: ratios between this and its inverse are called equal sizes
SAME_SIZE = 1.005
#: keeps the inverse of a ratio finite
TINY = 1e-12


@dataclass(frozen=True)
class Figure:
    """One of the big numbers; `tone` is "good", "bad", or "" where no difference was shown."""

    value: str
    label: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Headline:
    """For one device and plan. `figures` is empty if nothing is recommended; `baseline` is what they compare with."""

    advice: Advice
    sentence: str
    figures: tuple[Figure, ...] = ()
    baseline: Measurement | None = None


def headlines(measurements: Sequence[Measurement]) -> list[Headline]:
    """One for each device and plan: those with figures first, else in order of appearance."""
    return sorted((_headline(item, measurements) for item in advice(measurements)), key=lambda one: not one.figures)


def _headline(item: Advice, measurements: Sequence[Measurement]) -> Headline:
    choice = item.measurement
    if choice is None:
        return Headline(item, item.ship[0])
    base = baseline(choice, measurements)
    figures = _size(choice, base), _speed(choice, base), _accuracy(choice)
    sentence = " ".join([_sentence(item, choice, base, figures), *_no_int8(choice, measurements)])
    return Headline(item, sentence, figures, base)


def baseline(choice: Measurement, measurements: Sequence[Measurement]) -> Measurement | None:
    """What `choice` is compared with: its float parent in the same format, else the float root of its chain.

    None if neither has a valid measurement on the same device, with the same threads and batch.
    """
    position = next(i for i, m in enumerate(measurements) if m is choice)
    like = parent_of(position, measurements)
    candidates = [like] if like and like.format == choice.format and like.precision != choice.precision else []
    root = choice.metric.against if choice.metric else None
    candidates += [m for m in measurements if m.artifact == root and m is not choice]
    return next((m for m in candidates if _comparable(m, choice)), None)


def _comparable(m: Measurement, choice: Measurement) -> bool:
    if m.invalid or m.latency_ms is None or choice.latency_ms is None:
        return False
    plan, other = m.latency_ms.plan, choice.latency_ms.plan
    return (m.target, m.provenance, plan) == (choice.target, choice.provenance, other)


def _size(choice: Measurement, base: Measurement | None) -> Figure:
    if base is None or not (base.size_bytes and choice.size_bytes):
        return Figure(f"{kilobytes(choice.size_bytes)} kB", "file size", "")
    ratio = base.size_bytes / choice.size_bytes
    detail = f"file {kilobytes(base.size_bytes)} → {kilobytes(choice.size_bytes)} kB"
    if 1 / SAME_SIZE < ratio < SAME_SIZE:
        return Figure("1×", "the same size", detail)
    return Figure(f"{_times(ratio)}×", "smaller" if ratio > 1 else "larger", detail, "good" if ratio > 1 else "bad")


def _speed(choice: Measurement, base: Measurement | None) -> Figure:
    assert choice.latency_ms  # advice recommends only what has a latency
    p50 = number(choice.latency_ms.p50)
    what = "p50 CPU time" if choice.latency_ms.clock == "cpu" else "p50"
    if base is None or base.latency_ms is None or min(base.latency_ms.p50, choice.latency_ms.p50) <= 0:
        low, high = choice.latency_ms.ci95
        label = what if choice.latency_ms.clock == "cpu" else "p50 latency"
        return Figure(f"{p50} ms", label, f"95 % interval {number(low)} to {number(high)}")
    ratio = latency_ratio(base.latency_ms, choice.latency_ms, paired=base.session == choice.session)
    low, high = ratio.ci99
    before, now = base.latency_ms, choice.latency_ms
    detail = f"{what} {number(before.p50)} → {p50} ms"
    if before.clock != now.clock:  # CPU time and wall time cannot be compared
        if not (before.per_process_cpu and now.per_process_cpu):
            texts = (f"{'CPU' if one.clock == 'cpu' else 'wall'} time {number(one.p50)}" for one in (before, now))
            return Figure(f"{p50} ms", f"{what}, not comparable", f"{' → '.join(texts)} ms")
        detail = f"CPU time {' → '.join(number(median(one.per_process_cpu)) for one in (before, now))} ms"
    if min(choice.latency_ms.processes, base.latency_ms.processes) < 2:
        return Figure(f"{_times(ratio.value)}×", "in speed, not significant: one process only", detail)
    if not ratio.differs:
        detail += f"; ratio {number(low)} to {number(high)} (99 %)"
        return Figure(f"{_times(ratio.value)}×", "no significant difference in speed", detail)
    is_faster = ratio.value > 1
    ends = (low, high) if is_faster else (1 / high, 1 / max(low, TINY))
    detail += f"; {number(ends[0])} to {number(ends[1])} times (99 %)"
    return Figure(
        f"{_times(ratio.value)}×", "faster" if is_faster else "slower", detail, "good" if is_faster else "bad"
    )


def _accuracy(choice: Measurement) -> Figure:
    metric = choice.metric
    assert metric  # advice recommends only what has a metric
    value = metric_text(metric, metric.value)
    if metric.drop_pp is None:
        ends = " to ".join(metric_text(metric, end) for end in metric.ci95)
        return Figure(value, metric.name, f"95 % interval {ends}")
    text = f"{abs(metric.drop_pp):.2f} {drop_unit(metric)}"
    change = f"{metric.name} {'gained' if metric.drop_pp < 0 else 'lost'}"
    if not metric.higher_is_better:  # "RMSE lost" would be a gain
        change = f"{'better' if metric.drop_pp < 0 else 'worse'} in {metric.name}"
    detail = f"now {value} over {metric.samples:,} samples"
    if metric.drop_ci95 is None:
        return Figure(text, f"{change}, without an interval", detail)
    low, high = metric.drop_ci95
    detail += f"; {'drop' if metric.higher_is_better else 'worse by'} {low:+.2f} to {high:+.2f} (95 %)"
    if not (low > 0 or high < 0):
        return Figure(text, f"{change}, not significant", detail)
    label = f"of {change}" if metric.higher_is_better else change
    return Figure(text, label, detail, "bad" if metric.drop_pp > 0 else "good")


def _sentence(
    item: Advice, choice: Measurement, base: Measurement | None, figures: tuple[Figure, Figure, Figure]
) -> str:
    size, speed, quality = figures
    if base is None:
        return item.ship[0]
    smaller = f"{size.value[:-1]} times {size.label}" if size.tone else ""
    if speed.label in ("faster", "slower"):
        faster = f"{speed.value[:-1]} times {speed.label}"
    else:
        faster = "not significantly faster" if speed.value.endswith("×") else ""
    joint = " and " if (size.tone == "good") == (speed.tone == "good") else " but "
    change = joint.join(filter(None, [smaller, faster]))
    if not change:
        return item.ship[0]
    return f"{choice.artifact} is {change} than {base.artifact} on {item.target}{item.plan}{_loss(choice, quality)}."


def _loss(choice: Measurement, quality: Figure) -> str:
    assert choice.metric
    name, drop = choice.metric.name, choice.metric.drop_pp
    loss = "loss" if choice.metric.higher_is_better else "change"
    if drop is None:
        return f"; its {loss} of {name} was not measured"
    if quality.tone:
        return f", {'with ' if choice.metric.higher_is_better else ''}{quality.value} {quality.label}"
    if choice.metric.drop_ci95 is None:
        question = f"it loses {name}" if choice.metric.higher_is_better else f"its {name} is worse"
        return f"; whether {question} is not proven"
    return f", with no significant {loss} of {name}"


def _no_int8(choice: Measurement, measurements: Sequence[Measurement]) -> Iterator[str]:
    """Why no int8 artifact is recommended, from the one that came closest; nothing if none was measured."""
    if choice.precision not in ("", "fp32"):
        return
    scoped = next(ms for ms in scopes(measurements).values() if any(m is choice for m in ms))
    measured = [m for m in scoped if m.precision == "int8" and m.provenance == "measured"]
    if measured:
        _, reason = max((_reason(m, choice, scoped) for m in measured), key=lambda pair: pair[0])
        yield f"No int8 artifact is recommended: {reason}."


def _reason(m: Measurement, choice: Measurement, scoped: Sequence[Measurement]) -> tuple[int, str]:
    """How far `m` came, and what kept it from being recommended."""
    if m.invalid:
        return 0, f"the measurement of {m.artifact} is invalid ({m.invalid[0]})"
    if m.verdict and m.verdict.state == "missed":
        return 1, f"{m.artifact} missed its accuracy budget of {m.verdict.budget_pp:g} {drop_unit(m.metric)}"
    accurate = within_budget(scoped)
    if not any(m is other for other in accurate):
        is_lower = m.metric is not None and not m.metric.higher_is_better
        loss = "is too much worse in" if is_lower else "loses too much"
        return 2, f"{m.artifact} {loss} {m.metric.name if m.metric else 'accuracy'}"
    if slower(m, choice):
        return 3, f"{m.artifact} is slower"
    if m.size_bytes < choice.size_bytes:  # then it is not among the fastest, as the choice is
        fastest = min(accurate, key=lambda other: other.latency_ms.p50 if other.latency_ms else 0.0)
        return 3, f"{m.artifact} is smaller, but slower than {fastest.artifact} in {fastest.runtime}"
    return 4, f"{m.artifact} is not significantly faster, and not smaller"


def _times(ratio: float) -> str:
    """A ratio, or its inverse if below 1: "3.6", "13", and "1.02" where one decimal would show 1.0."""
    ratio = max(ratio, 1 / max(ratio, TINY))
    return f"{ratio:.2f}" if ratio < 1.1 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"
