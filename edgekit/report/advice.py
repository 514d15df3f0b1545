"""Measurements → sentences a person would write: what to ship on each device, what it costs, what is not proven.

Only what was measured alike is weighed: one device, one test set, the same threads and batch. What is emulated or
estimated is never weighed against what was measured. Of the rows whose metric is within the budget of the best one, the
fastest is named; of those that cannot be told apart in speed, the smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Measurement
from edgekit.core.statistics import latency_ratio
from edgekit.report.best import slower
from edgekit.report.pareto import fronts, goodness
from edgekit.report.rows import Scope, gains, kilobytes, memory, metric_text, number, scopes

#: points below the best metric that are given up for speed, where no budget says another number
WITHIN_PP = 0.5
#: names in one sentence
MOST = 4
#: processes below which an interval rests on very little
FEW_PROCESSES = 5


@dataclass(frozen=True)
class Advice:
    """For one device and way of measuring: `ship` says what, `costs` what it gives up, `unproven` what nobody knows.

    `artifact` is None where nothing can be recommended, and `ship` says why.
    """

    target: str
    plan: str
    artifact: str | None
    runtime: str
    ship: tuple[str, ...]
    costs: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


def advice(measurements: Sequence[Measurement]) -> list[Advice]:
    """One for each device, in order of appearance; several where it was measured with several plans."""
    found = []
    everyone = list(dict.fromkeys(m.artifact for m in measurements))
    for scope, scoped in scopes(measurements).items():
        by_hand = [m for m in scoped if m.provenance == "measured"]
        found.append(_measured(scope, by_hand, everyone, measurements) if by_hand else _not_measured(scope, scoped))
    known = {item.target for item in found}
    for target in dict.fromkeys(m.target for m in measurements if m.target not in known):
        found.append(_without_metric(target, [m for m in measurements if m.target == target]))
    return found


def lines(found: Sequence[Advice]) -> Iterator[str]:
    """Everything as plain lines, for a terminal or a list."""
    for item in found:
        yield from (*item.ship, *item.costs, *(f"Not proven: {text}" for text in item.unproven))


def _measured(
    scope: Scope, scoped: Sequence[Measurement], everyone: Sequence[str], measurements: Sequence[Measurement]
) -> Advice:
    where, plan = scope.target, _plan(scope, measurements)
    valid = [m for m in scoped if not m.invalid]
    kept = [m for m in valid if m.verdict is None or m.verdict.state != "missed"]
    if not kept:
        why = "every measurement of it is invalid" if not valid else "everything measured there missed its budget"
        reason = next((f" ({m.artifact}: {m.invalid[0]})" for m in scoped if m.invalid), "") if not valid else ""
        next_ = "see to that, then measure again" if not valid else "allow more, or try other methods"
        text = f"On {where}{plan} nothing can be recommended: {why}{reason}; {next_}."
        return Advice(where, plan, None, "", (text,))
    top = max(kept, key=goodness)
    near = [m for m in kept if _points(top, m) <= _budget(kept)]
    first = min(near, key=_p50)
    equals = [m for m in near if m is first or not slower(m, first)]
    chosen = min(equals, key=lambda m: (m.size_bytes, memory(m) or 0, _p50(m)))
    ship = (_ship(chosen, where, plan), *_why(chosen, near, equals, top, kept))
    costs = (*_loss(chosen), *_gained(chosen, measurements), *_others(chosen, near, kept, top))
    unproven = (*_doubts(chosen), *_left_out(scoped, kept), *_absent(scoped, everyone, measurements))
    return Advice(where, plan, chosen.artifact, chosen.runtime, ship, costs, unproven)


def _ship(m: Measurement, where: str, plan: str) -> str:
    used = memory(m)
    figures = [_metric(m), f"p50 {_ms(m)}", f"{kilobytes(m.size_bytes)} kB"]
    figures += [f"{used / 1e6:.1f} MB of memory"] if used is not None and used > 0 else []
    return f"On {where}{plan}, ship {m.artifact} in {m.runtime}: {', '.join(figures)}."


def _why(
    chosen: Measurement,
    near: Sequence[Measurement],
    equals: Sequence[Measurement],
    top: Measurement,
    kept: Sequence[Measurement],
) -> Iterator[str]:
    if len(kept) == 1:
        yield "There is nothing else to choose from."
        return
    of = "of all"
    if len(near) < len(kept):
        of = f"of the {len(near)} within {_allowed(kept)} of the best, {top.artifact}"
    if len(equals) == 1:
        yield f"It is the fastest {of}."
        return
    others = _names([m.artifact for m in equals if m is not chosen])
    smallest = all(m.size_bytes > chosen.size_bytes for m in equals if m is not chosen)
    yield f"It is among the fastest {of}: {others} cannot be told apart from it" + (
        ", and it is the smallest." if smallest else "."
    )


def _loss(m: Measurement) -> Iterator[str]:
    """What the metric lost against the chain's float root, with its interval."""
    metric = m.metric
    if metric is None or metric.drop_pp is None or metric.against is None:
        return
    unit = "points" if metric.unit == "fraction" else "%"
    low, high = metric.drop_ci95 or (metric.drop_pp, metric.drop_pp)
    between = f"95 % interval {low:+.2f} to {high:+.2f}"
    if low <= 0 <= high:
        over = f"{metric.samples:,} samples show no loss of {metric.name}"
        yield f"Against {metric.against}, {over} ({metric.drop_pp:+.2f} {unit}, {between})."
    else:
        verb = "loses" if metric.drop_pp > 0 else "gains"
        yield f"Against {metric.against} it {verb} {abs(metric.drop_pp):.2f} {unit} of {metric.name} ({between})."


def _gained(m: Measurement, measurements: Sequence[Measurement]) -> Iterator[str]:
    for gain in gains(measurements):
        if (gain.artifact, gain.target) != (m.artifact, m.target) or (gain.plan and gain.plan != _words(m)):
            continue
        changes = [f"{name} {text.lower()}" for name, text, _ in gain.parts() if name != "weights"]
        if changes:
            yield f"Against {gain.against}, which it was made from: {', '.join(changes)}."
        return


def _others(
    chosen: Measurement, near: Sequence[Measurement], kept: Sequence[Measurement], top: Measurement
) -> Iterator[str]:
    """What someone may want instead: faster and worse, better and slower, smaller and slower."""
    faster = [m for m in _front(kept) if m not in near and slower(chosen, m)]
    if faster:
        m = max(faster, key=goodness)
        yield f"Faster still, {_times(chosen, m)}: {m.artifact}, p50 {_ms(m)}, for {_gap(chosen, m)}."
    if goodness(top) > goodness(chosen):
        speed = f"{_times(top, chosen)} the time" if slower(top, chosen) else "a time that cannot be told apart"
        doubt = "; the intervals overlap, so that is not proven" if _overlap(top, chosen) else ""
        yield f"Best {_name(top)}: {top.artifact}, {_metric(top)} ({_gap(top, chosen)} better{doubt}), at {speed}."
    small = min(near, key=lambda m: m.size_bytes)
    if small.size_bytes < chosen.size_bytes:
        speed = f"{_times(small, chosen)} the time" if slower(small, chosen) else "no longer time"
        yield f"Smallest: {small.artifact}, {kilobytes(small.size_bytes)} kB, at {speed}."


def _doubts(m: Measurement) -> Iterator[str]:
    verdict, latency = m.verdict, m.latency_ms
    if verdict and verdict.state == "undecided":
        more = f"; about {verdict.samples_to_decide:,} samples would decide" if verdict.samples_to_decide else ""
        yield f"that {m.artifact} stays within {verdict.budget_pp:g} points on {verdict.set}{more}."
    if latency and latency.processes < FEW_PROCESSES:
        count = f"{latency.processes} process" + ("es" if latency.processes != 1 else "")
        yield f"its speed, which rests on {count} only; edgekit bench takes 15."
    if m.metric and m.metric.drop_pp is None and m.precision not in ("", "fp32"):
        yield f"what {m.artifact} lost: it was not compared with its float root."


def _left_out(scoped: Sequence[Measurement], kept: Sequence[Measurement]) -> Iterator[str]:
    invalid = [m for m in scoped if m.invalid]
    for reason in dict.fromkeys(m.invalid[0] for m in invalid):
        names = _names([m.artifact for m in invalid if m.invalid[0] == reason])
        yield f"anything about {names}: invalid ({reason}), so not weighed."
    missed = [m.artifact for m in scoped if not m.invalid and m not in kept]
    if missed:
        yield f"that {_names(missed)} would do: the accuracy budget was missed, so not weighed."


def _absent(
    scoped: Sequence[Measurement], everyone: Sequence[str], measurements: Sequence[Measurement]
) -> Iterator[str]:
    """What was measured elsewhere and not here."""
    here = {m.artifact for m in measurements if m.target == scoped[0].target}
    absent = [name for name in everyone if name not in here]
    if absent:
        yield f"how {_names(absent)} would do on {scoped[0].target}: not measured there."


def _not_measured(scope: Scope, scoped: Sequence[Measurement]) -> Advice:
    provenance = scoped[0].provenance
    what = {
        "emulated": "that it runs there, and what it answers; not how fast",
        "simulated-instructions": "how many instructions it takes; not how fast it is",
    }.get(provenance, "nothing about a real device")
    text = f"On {scope.target} nothing can be recommended: its figures are {provenance}, which says {what}."
    return Advice(scope.target, "", None, "", (text,), (), ("any speed there, until it is measured on the device.",))


def _without_metric(target: str, found: Sequence[Measurement]) -> Advice:
    timed = [m for m in found if m.latency_ms and not m.invalid and m.provenance == "measured"]
    if not timed:
        return Advice(target, "", None, "", (f"On {target} nothing can be recommended: nothing valid was measured.",))
    first = min(timed, key=_p50)
    text = f"On {target} the fastest is {first.artifact} in {first.runtime}: p50 {_ms(first)}, "
    text += f"{kilobytes(first.size_bytes)} kB."
    doubt = "how good it is: no samples with labels were given (edgekit bench --data SET)."
    return Advice(target, "", None, "", (text,), (), (doubt,))


def _front(kept: Sequence[Measurement]) -> list[Measurement]:
    return [m for front in fronts(kept).values() for m in front]


def _points(best: Measurement, m: Measurement) -> float:
    """How far below `best`: percentage points of a fraction, else per cent of the best's value."""
    gap = goodness(best) - goodness(m)
    assert best.metric
    return 100 * gap if best.metric.unit == "fraction" else 100 * gap / (abs(best.metric.value) or 1.0)


def _budget(kept: Sequence[Measurement]) -> float:
    return max((m.verdict.budget_pp for m in kept if m.verdict), default=WITHIN_PP)


def _allowed(kept: Sequence[Measurement]) -> str:
    fraction = kept[0].metric is not None and kept[0].metric.unit == "fraction"
    return f"{_budget(kept):g} {'points' if fraction else '%'}"


def _gap(a: Measurement, b: Measurement) -> str:
    best, other = (a, b) if goodness(a) >= goodness(b) else (b, a)
    fraction = best.metric is not None and best.metric.unit == "fraction"
    return f"{_points(best, other):.2f} {'points' if fraction else '%'} of {_name(a)}"


def _overlap(a: Measurement, b: Measurement) -> bool:
    assert a.metric and b.metric
    return a.metric.ci95[0] <= b.metric.ci95[1] and b.metric.ci95[0] <= a.metric.ci95[1]


def _times(slow: Measurement, fast: Measurement) -> str:
    assert slow.latency_ms and fast.latency_ms
    if fast.latency_ms.p50 <= 0:
        return "many times"
    ratio = latency_ratio(slow.latency_ms, fast.latency_ms, paired=slow.session == fast.session)
    return f"{ratio.value:.2f} times"


def _plan(scope: Scope, measurements: Sequence[Measurement]) -> str:
    plans = {(m.latency_ms.threads, m.latency_ms.batch) for m in measurements if m.latency_ms}
    words = f"{scope.threads} thread" + ("s" if scope.threads != 1 else "")
    return f" ({words}, batch {scope.batch})" if len(plans) > 1 else ""


def _words(m: Measurement) -> str:
    assert m.latency_ms
    threads = m.latency_ms.threads
    return f"{threads} thread{'s' if threads != 1 else ''}, batch {m.latency_ms.batch}"


def _names(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    if len(shown) > MOST:
        return f"{', '.join(shown[:MOST])} and {len(shown) - MOST} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _metric(m: Measurement) -> str:
    assert m.metric
    return f"{metric_text(m.metric, m.metric.value)} {m.metric.name}"


def _name(m: Measurement) -> str:
    return m.metric.name if m.metric else "metric"


def _ms(m: Measurement) -> str:
    assert m.latency_ms
    return f"{number(m.latency_ms.p50)} ms"


def _p50(m: Measurement) -> float:
    assert m.latency_ms
    return m.latency_ms.p50
