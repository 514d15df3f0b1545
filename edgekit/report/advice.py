"""Measurements → recommendations: what to ship on each device, what it costs, and what is not proven.

Only comparable measurements are ranked: one device, one test set, the same threads and batch. Emulated or estimated
ones are never ranked together with measured ones. Of the artifacts whose metric is within the budget of the best, the
fastest is recommended; of those without a significant difference in latency, the smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Latency, Measurement, plan_text
from edgekit.core.statistics import latency_ratio
from edgekit.report.best import slower
from edgekit.report.pareto import fronts, goodness
from edgekit.report.rows import (
    Scope,
    change,
    change_interval,
    drop_unit,
    gains,
    kilobytes,
    memory,
    metric_text,
    number,
    scopes,
)

#: points below the best metric that are accepted for speed, if no budget is set
WITHIN_PP = 0.5
#: the most names in one sentence
MAX_NAMES = 4
#: with fewer processes a latency interval is not reliable
FEW_PROCESSES = 5


@dataclass(frozen=True)
class Advice:
    """For one device and plan: `ship` is the recommendation, `costs` its drawbacks, `unproven` what was not shown.

    `artifact` and `measurement` are None if nothing can be recommended; `ship` then says why.
    """

    target: str
    plan: str
    artifact: str | None
    runtime: str
    ship: tuple[str, ...]
    costs: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    measurement: Measurement | None = None


def recommended(measurements: Sequence[Measurement]) -> frozenset[int]:
    """`id()` of each recommended measurement: at most one for each device and plan."""
    return frozenset(id(item.measurement) for item in advice(measurements) if item.measurement)


def advice(measurements: Sequence[Measurement]) -> list[Advice]:
    """One for each device and plan, in order of appearance."""
    advices = []
    artifacts = list(dict.fromkeys(m.artifact for m in measurements))
    for scope, scoped in scopes(measurements).items():
        measured = [m for m in scoped if m.provenance == "measured"]
        advices.append(
            _measured(scope, measured, artifacts, measurements) if measured else _not_measured(scope, scoped)
        )
    known = {item.target for item in advices}
    for target in dict.fromkeys(m.target for m in measurements if m.target not in known):
        advices += _without_metric(target, [m for m in measurements if m.target == target], measurements)
    return advices


def lines(advices: Sequence[Advice]) -> Iterator[str]:
    """All sentences as plain lines."""
    for item in advices:
        yield from (*item.ship, *item.costs, *(f"Not proven: {text}" for text in item.unproven))


def _measured(
    scope: Scope, scoped: Sequence[Measurement], artifacts: Sequence[str], measurements: Sequence[Measurement]
) -> Advice:
    where, plan = scope.target, _plan(scope, measurements)
    candidates = _candidates(scoped)
    if not candidates:
        valid = [m for m in scoped if not m.invalid]
        why = "every measurement is invalid" if not valid else "every artifact missed its accuracy budget"
        reason = next((f" ({m.artifact}: {m.invalid[0]})" for m in scoped if m.invalid), "") if not valid else ""
        next_ = "fix this, then measure again" if not valid else "raise the budget, or try other methods"
        text = f"On {where}{plan} nothing can be recommended: {why}{reason}; {next_}."
        return Advice(where, plan, None, "", (text,))
    top = max(candidates, key=goodness)
    accurate = within_budget(scoped)
    fastest = min(accurate, key=_p50)
    equally_fast = [m for m in accurate if m is fastest or not slower(m, fastest)]
    choice = min(equally_fast, key=lambda m: (m.size_bytes, memory(m) or 0, _p50(m)))
    ship = (_ship(choice, where, plan), *_why(choice, accurate, equally_fast, top, candidates))
    costs = (
        *_metric_change(choice),
        *_gain(choice, measurements),
        *_alternatives(choice, accurate, candidates, top),
    )
    unproven = (*_uncertainties(choice), *_excluded(scoped, candidates), *_absent(scoped, artifacts, measurements))
    return Advice(where, plan, choice.artifact, choice.runtime, ship, costs, unproven, choice)


def within_budget(scoped: Sequence[Measurement]) -> list[Measurement]:
    """The candidates whose metric is within the budget of the best; `scoped` is one value of `scopes`."""
    candidates = _candidates(scoped)
    top = max(candidates, key=goodness, default=None)
    return [m for m in candidates if top and _points(top, m) <= _budget(candidates)]


def _candidates(scoped: Sequence[Measurement]) -> list[Measurement]:
    """The valid measurements made on the device that did not miss their budget."""
    valid = [m for m in scoped if not m.invalid and m.provenance == "measured"]
    return [m for m in valid if m.verdict is None or m.verdict.state != "missed"]


def _ship(m: Measurement, where: str, plan: str) -> str:
    used = memory(m)
    figures = [_metric(m), f"p50 {_ms(m)}", f"{kilobytes(m.size_bytes)} kB"]
    figures += [f"{used / 1e6:.1f} MB of memory"] if used is not None and used > 0 else []
    return f"On {where}{plan}, ship {m.artifact} in {m.runtime}: {', '.join(figures)}."


def _why(
    choice: Measurement,
    accurate: Sequence[Measurement],
    equally_fast: Sequence[Measurement],
    top: Measurement,
    candidates: Sequence[Measurement],
) -> Iterator[str]:
    if len(candidates) == 1:
        yield "There is no alternative."
        return
    group = "of all"
    if len(accurate) < len(candidates):
        group = f"of the {len(accurate)} within {_allowed(candidates)} of the best, {top.artifact}"
    if len(equally_fast) == 1:
        yield f"It is the fastest {group}."
        return
    others = _names([m.artifact for m in equally_fast if m is not choice])
    smallest = all(m.size_bytes > choice.size_bytes for m in equally_fast if m is not choice)
    yield f"It is among the fastest {group}: there is no significant difference from {others}" + (
        ", and it is the smallest." if smallest else "."
    )


def _metric_change(m: Measurement) -> Iterator[str]:
    """The change of the metric against the chain's float root, with its interval."""
    metric = m.metric
    if metric is None or metric.drop_pp is None or metric.against is None:
        return
    unit = drop_unit(metric)
    low, high = metric.drop_ci95 or (metric.drop_pp, metric.drop_pp)
    between = change_interval(metric.drop_pp, (low, high))
    # "loses RMSE" would be a gain
    worse = f"{abs(metric.drop_pp):.2f} {unit} {'better' if round(metric.drop_pp, 2) < 0 else 'worse'}"
    if low <= 0 <= high:
        what = f"{metric.samples:,} samples show no significant change of {metric.name}"
        changed = change(metric.drop_pp, unit) if metric.higher_is_better else worse
        yield f"Compared with {metric.against}, {what} ({changed}, 95 % interval {between})."
    elif not metric.higher_is_better:
        yield f"Compared with {metric.against}, it is {worse} in {metric.name} (95 % interval {between})."
    else:
        verb = "loses" if metric.drop_pp > 0 else "gains"
        amount = f"{abs(metric.drop_pp):.2f} {unit} of {metric.name}"
        yield f"Compared with {metric.against}, it {verb} {amount} (95 % interval {between})."


def _gain(m: Measurement, measurements: Sequence[Measurement]) -> Iterator[str]:
    for gain in gains(measurements):
        if (gain.artifact, gain.target, gain.runtime) != (m.artifact, m.target, m.runtime):
            continue
        if gain.plan and gain.plan != _plan_text(m):
            continue
        parts = [part for part in gain.parts() if part[0] != "weights"]
        changes = [f"{name} {text.lower() if is_worse else text}" for name, text, is_worse in parts]
        if changes:
            yield f"Compared with its parent {gain.against}: {', '.join(changes)}."
        return


def _alternatives(
    choice: Measurement, accurate: Sequence[Measurement], candidates: Sequence[Measurement], top: Measurement
) -> Iterator[str]:
    """Alternatives: faster and less accurate, more accurate and slower, smaller and slower."""
    faster = [m for m in _front(candidates) if m not in accurate and slower(choice, m)]
    if faster:
        m = max(faster, key=goodness)
        yield f"Faster by {_times(choice, m)}: {m.artifact}, p50 {_ms(m)}, at a cost of {_gap(choice, m)}."
    if goodness(top) > goodness(choice):
        speed = f"{_times(top, choice)} the latency" if slower(top, choice) else "no significantly higher latency"
        caveat = "; not proven, the intervals overlap" if _overlap(top, choice) else ""
        yield f"Best {_name(top)}: {top.artifact}, {_metric(top)} ({_gap(top, choice)} better{caveat}), at {speed}."
    small = min(accurate, key=lambda m: m.size_bytes)
    if small.size_bytes < choice.size_bytes:
        speed = f"{_times(small, choice)} the latency" if slower(small, choice) else "no significantly higher latency"
        yield f"Smallest: {small.artifact}, {kilobytes(small.size_bytes)} kB, at {speed}."


def _uncertainties(m: Measurement) -> Iterator[str]:
    verdict, latency = m.verdict, m.latency_ms
    if verdict and verdict.state == "undecided":
        more = f"; about {verdict.samples_to_decide:,} samples would decide" if verdict.samples_to_decide else ""
        yield f"that {m.artifact} stays within {verdict.budget_pp:g} {drop_unit(m.metric)} on {verdict.set}{more}."
    if latency and latency.processes < FEW_PROCESSES:
        count = f"{latency.processes} process" + ("es" if latency.processes != 1 else "")
        yield f"its latency: it was measured in {count} only; edgekit bench uses 15."
    if m.metric and m.metric.drop_pp is None and m.precision not in ("", "fp32"):
        yield f"the accuracy drop of {m.artifact}: it was not compared with its float root."


def _excluded(scoped: Sequence[Measurement], candidates: Sequence[Measurement]) -> Iterator[str]:
    invalid = [m for m in scoped if m.invalid]
    for reason in dict.fromkeys(m.invalid[0] for m in invalid):
        names = _names([m.artifact for m in invalid if m.invalid[0] == reason])
        yield f"anything about {names}: invalid ({reason}), so not ranked."
    missed = [m.artifact for m in scoped if not m.invalid and m not in candidates]
    if missed:
        yield f"that {_names(missed)} can be used: the accuracy budget was missed, so not ranked."


def _absent(
    scoped: Sequence[Measurement], artifacts: Sequence[str], measurements: Sequence[Measurement]
) -> Iterator[str]:
    """Artifacts that were measured on other targets only."""
    measured_here = {m.artifact for m in measurements if m.target == scoped[0].target}
    absent = [name for name in artifacts if name not in measured_here]
    if absent:
        yield f"how {_names(absent)} performs on {scoped[0].target}: not measured there."


def _not_measured(scope: Scope, scoped: Sequence[Measurement]) -> Advice:
    provenance = scoped[0].provenance
    what = {
        "emulated": "that the model runs there and what it outputs, but not its latency",
        "simulated-instructions": "the number of instructions, but not the latency",
    }.get(provenance, "nothing about a real device")
    text = f"On {scope.target} nothing can be recommended: its figures are {provenance}, which shows {what}."
    return Advice(scope.target, "", None, "", (text,), (), ("its latency: measure it on the device.",))


def _without_metric(
    target: str, on_target: Sequence[Measurement], measurements: Sequence[Measurement]
) -> Iterator[Advice]:
    """One for each plan."""
    timed = [m for m in on_target if m.latency_ms and not m.invalid and m.provenance == "measured"]
    if not timed:
        untimed = any(m.metric and not m.latency_ms and not m.invalid for m in on_target)
        why = "nothing was timed" if untimed else "it has no valid measurement"
        text = f"On {target} nothing can be recommended: {why}."
        yield Advice(target, "", None, "", (text,))
    caveat = "its accuracy: no labelled samples were given (edgekit bench --data SET)."
    for shown in dict.fromkeys(map(_plan_text, timed)):
        fastest = min((m for m in timed if _plan_text(m) == shown), key=_p50)
        assert fastest.latency_ms
        plan = _plan(fastest.latency_ms, measurements)
        text = f"On {target}{plan} the fastest is {fastest.artifact} in {fastest.runtime}: p50 {_ms(fastest)}, "
        yield Advice(target, plan, None, "", (f"{text}{kilobytes(fastest.size_bytes)} kB.",), (), (caveat,))


def _front(candidates: Sequence[Measurement]) -> list[Measurement]:
    return [m for front in fronts(candidates).values() for m in front]


def _points(best: Measurement, m: Measurement) -> float:
    """The distance below `best`: in percentage points for a fraction, else in per cent of the best value."""
    gap = goodness(best) - goodness(m)
    assert best.metric
    return 100 * gap if best.metric.unit == "fraction" else 100 * gap / (abs(best.metric.value) or 1.0)


def _budget(candidates: Sequence[Measurement]) -> float:
    return max((m.verdict.budget_pp for m in candidates if m.verdict), default=WITHIN_PP)


def _allowed(candidates: Sequence[Measurement]) -> str:
    return f"{_budget(candidates):g} {drop_unit(candidates[0].metric)}"


def _gap(a: Measurement, b: Measurement) -> str:
    best, other = (a, b) if goodness(a) >= goodness(b) else (b, a)
    return f"{_points(best, other):.2f} {drop_unit(best.metric)} of {_name(a)}"


def _overlap(a: Measurement, b: Measurement) -> bool:
    assert a.metric and b.metric
    return a.metric.ci95[0] <= b.metric.ci95[1] and b.metric.ci95[0] <= a.metric.ci95[1]


def _times(slow: Measurement, fast: Measurement) -> str:
    assert slow.latency_ms and fast.latency_ms
    if fast.latency_ms.p50 <= 0:
        return "many times"
    ratio = latency_ratio(slow.latency_ms, fast.latency_ms, paired=slow.session == fast.session)
    return f"{ratio.value:.2f} times"


def _plan(scope: Scope | Latency, measurements: Sequence[Measurement]) -> str:
    plans = {m.latency_ms.plan for m in measurements if m.latency_ms}
    return f" ({plan_text(scope.threads, scope.batch, scope.prompt, scope.new_tokens)})" if len(plans) > 1 else ""


def _plan_text(m: Measurement) -> str:
    assert m.latency_ms
    return plan_text(*m.latency_ms.plan)


def _names(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    if len(unique) > MAX_NAMES:
        return f"{', '.join(unique[:MAX_NAMES])} and {len(unique) - MAX_NAMES} more"
    return " and ".join([", ".join(unique[:-1]), unique[-1]] if len(unique) > 1 else unique)


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
