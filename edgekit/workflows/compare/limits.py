"""Limits on changes against a baseline: parsing, and the verdict on each row."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.core.errors import GateFailed, InputError
from edgekit.core.measurement import Measurement, Ratio, plan_text
from edgekit.report.rows import EMPTY_CELL, memory, metric_text, number

#: quantity → units of its change; any other word is the name of a metric
UNITS: Mapping[str, tuple[str, ...]] = {
    "p50": ("%", "ms"),
    "size": ("%", "kB", "MB"),
    "memory": ("%", "MB"),
}
METRIC_UNITS = ("pp", "%")
#: means the metric, whatever its name
ANY_METRIC = "metric"
EXAMPLES = "p50>+5%, accuracy<-0.5pp or size>+2%"
_BYTES = {"kB": 1e3, "MB": 1e6}


@dataclass(frozen=True)
class Limit:
    """The highest change of a quantity: `amount` in `unit`, up (`direction` 1) or down (-1); `text` as typed."""

    text: str
    quantity: str
    direction: int
    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse `QUANTITY>+N UNIT` or `QUANTITY<-N UNIT`. Raises InputError with the position of a syntax error."""
        position = 0

        def take(pattern: str, expected: str) -> str:
            nonlocal position
            position += len(text[position:]) - len(text[position:].lstrip())
            match = re.compile(pattern).match(text, position)
            if match is None:
                seen = f"not {text[position]!r}" if position < len(text) else "but the text ends"
                raise InputError(
                    f"--fail-if {text!r} has a syntax error at character {position + 1}",
                    f"{expected} is expected, {seen}",
                    f"write it like {EXAMPLES}",
                )
            position = match.end()
            return match[0]

        quantity = take(r"[^\W\d_][\w@²-]*(?: [^\W\d_][\w@²-]*)*", "a quantity (p50, size, memory or a metric's name)")
        sign = "+" if take(r"[<>]", "> or <") == ">" else "-"
        take(re.escape(sign), f"{sign} (a change from the baseline)")
        amount = float(take(r"\d+(?:\.\d+)?", "a number"))
        known = UNITS.get(quantity.lower(), METRIC_UNITS)
        unit = take("(?:" + "|".join(map(re.escape, known)) + r")(?!\w)", f"a unit ({', '.join(known)})")
        take(r"\Z", "the end")
        quantity = quantity.lower() if quantity.lower() in (*UNITS, ANY_METRIC) else quantity
        return cls(text, quantity, 1 if sign == "+" else -1, amount, unit)

    @property
    def is_metric(self) -> bool:
        return self.quantity not in UNITS

    def beyond(self, change: float) -> bool:
        """Does a change (in `unit`) exceed the limit by more than a rounding error?"""
        return self.direction * change > self.amount * (1 + 1e-9) + 1e-9


@dataclass(frozen=True)
class Gate:
    """The verdict of one limit on one row. `change` is in the limit's unit, None if unknown; `why` is the reason.

    `interval`: the 99 % interval of `change`, of p50 alone: sizes are exact, and a metric is over the same samples.
    `after_ci`: the 95 % interval of the metric or p50 now, "" if it has none.

    Examples:
        >>> verdict = edgekit.gate("runs/mnist", "runs/mnist", "size>+2%")[0]
        >>> verdict.limit, verdict.state
        ('size>+2%', 'passed')
    """

    limit: str
    artifact: str
    target: str
    runtime: str
    plan: str
    before: str
    after: str
    change: float | None
    unit: str
    state: Literal["passed", "failed", "undecided"]
    why: str = ""
    interval: tuple[float, float] | None = None
    after_ci: str = ""

    def sentence(self) -> str:
        """The artifact, the value before and now, and the reason.

        Examples:
            >>> edgekit.gate("runs/mnist", "runs/mnist", "size>+2%")[0].sentence()
            'onnx on host in onnxruntime: ... before, ... now...'
        """
        change = f" ({self.change:+.2f} {self.unit})" if self.change is not None else ""
        text = f"{self.artifact} on {self.target} in {self.runtime}: {self.before} before, {self.after} now{change}"
        return f"{text}; {self.why}" if self.why else text

    def error(self, strict: bool = False) -> GateFailed | None:
        """The error of a failed gate; with `strict`, of an undecided one, too; else None.

        Examples:
            >>> edgekit.gate("runs/mnist", "runs/mnist", "size>+2%")[0].error() is None
            True
        """
        if self.state == "failed":
            return GateFailed(f"{self.limit} failed", self.sentence(), "fix it, or accept it as the new baseline")
        if self.state == "undecided" and strict:
            next = "compare with the baseline's run folder on an idle machine, with --thorough"
            if self.why.startswith(MISMATCH_BEFORE):
                next = "use another runtime or precision for it"
            elif self.why == NOT_MEASURED:
                next = "measure that artifact, or leave it out of the baseline"
            return GateFailed(f"{self.limit} is undecided", self.sentence(), next)
        return None


Pair = tuple[Measurement, Measurement]
#: start of the reason if the device's outputs did not match the host's in the baseline either
MISMATCH_BEFORE = "as in the baseline"
#: the reason for a row that is missing
NOT_MEASURED = "it is in the baseline and was not measured now"


def pair_rows(before: Sequence[Measurement], after: Sequence[Measurement]) -> list[Pair]:
    """Pair each new row with the baseline's of the same artifact name, target, runtime, threads and batch.

    Raises InputError if there is no pair, or if a pair's metrics are different, or over different test sets.
    """
    was = latest(before)
    matched = [(was[row_key(m)], m) for m in after if row_key(m) in was]
    if not matched:
        names = (", ".join(dict.fromkeys(f"{m.artifact} on {m.target}" for m in side)) for side in (before, after))
        what = "no row of the baseline was measured again"
        why = "the baseline has {}; the new results have {}".format(*names)
        raise InputError(what, why, "edgekit bench the same artifact names on the same target")
    for old, new in matched:
        if old.metric and new.metric and old.metric.set_sha256 != new.metric.set_sha256:
            sets = (f"{m.samples:,} samples, set {m.set_sha256[:12]}" for m in (old.metric, new.metric))
            why = "{} in the baseline, {} now".format(*sets)
            raise InputError(f"{new.artifact} was measured on another test set", why, "measure both on the same set")
        if old.metric and new.metric and old.metric.name != new.metric.name:
            why = f"{old.metric.name} in the baseline, {new.metric.name} now"
            raise InputError(
                f"{new.artifact} was measured in another metric", why, "measure both in one: bench --metric"
            )
    return matched


def latest(rows: Sequence[Measurement]) -> dict[tuple[str, str, str, str], Measurement]:
    """The last row of each key."""
    return {row_key(m): m for m in rows}


def row_key(m: Measurement) -> tuple[str, str, str, str]:
    """Identifies a row across runs."""
    return m.artifact, m.target, m.runtime, plan(m)


def plan(m: Measurement) -> str:
    latency = m.latency_ms
    return plan_text(*latency.plan) if latency else ""


def missing_rows(before: Sequence[Measurement], after: Sequence[Measurement]) -> list[Measurement]:
    """The rows of the baseline that were not measured now."""
    now = {row_key(m) for m in after}
    return [m for m in before if row_key(m) not in now]


def not_measured(limit: Limit, old: Measurement) -> Gate | None:
    """The undecided verdict on a row that is in the baseline only; None if the limit does not apply to it."""
    gate = _evaluate(limit, (old, old), None)
    if gate is None:
        return None
    return dataclasses.replace(gate, after=EMPTY_CELL, change=None, state="undecided", why=NOT_MEASURED, after_ci="")


def evaluate(limit: Limit, pair: Pair, ratio: Ratio | str | None) -> Gate | None:
    """The verdict on a row; None if the limit does not apply. `ratio` is p50 now over p50 before, or why it is unknown.

    Accuracy, size and memory are compared by value, since the samples are the same and sizes are exact. A latency fails
    if its change exceeds the limit and the 99 % interval of the ratio excludes 1. If the device's outputs do not match
    the host's now, but did in the baseline, accuracy and latency fail; if they did not match in the baseline either,
    accuracy and latency do not pass.
    """
    gate = _evaluate(limit, pair, ratio)
    depends_on_outputs = limit.is_metric or limit.quantity == "p50"
    if gate and gate.state == "passed" and depends_on_outputs and pair[1].mismatch_reason:
        return dataclasses.replace(gate, state="undecided", why=f"{MISMATCH_BEFORE}: {pair[1].mismatch_reason}")
    return gate


def _evaluate(limit: Limit, pair: Pair, ratio: Ratio | str | None) -> Gate | None:
    old, new = pair
    state: Literal["passed", "failed", "undecided"]
    if limit.quantity == "p50":
        if old.latency_ms is None and new.latency_ms is None:
            return None
        texts = tuple(f"{number(m.latency_ms.p50)} ms" if m.latency_ms else "-" for m in pair)
        if new.mismatch_reason and not old.mismatch_reason:
            return _gate(limit, new, texts, None, "failed", _new_mismatch(pair))
        if not isinstance(ratio, Ratio) or old.latency_ms is None or new.latency_ms is None:
            why = ratio if isinstance(ratio, str) else "it was measured in only one of them"
            return _gate(limit, new, texts, None, "undecided", why)
        factor = 100 if limit.unit == "%" else new.latency_ms.p50 / ratio.value
        change = (ratio.value - 1) * factor
        low, high = ratio.ci99
        interval = ((low - 1) * factor, (high - 1) * factor) if low > 0 else None  # 0: too few processes for one
        if not limit.beyond(change):
            state, why = "passed", ""
        elif ratio.differs:
            state, why = "failed", "the 99 % CI of the ratio is {:.3f} to {:.3f}".format(*ratio.ci99)
        else:
            state, why = "undecided", "the 99 % CI of the ratio, {:.3f} to {:.3f}, includes 1".format(*ratio.ci99)
        return _gate(limit, new, texts, change, state, why, interval)
    values = _values(limit, pair)
    if values is None:
        return None
    texts, (before, after) = values
    if new.mismatch_reason and not old.mismatch_reason and limit.is_metric:
        return _gate(limit, new, texts, None, "failed", _new_mismatch(pair))
    if before is None or after is None:
        return _gate(limit, new, texts, None, "undecided", "it was measured in only one of them")
    if not math.isfinite(after):
        return _gate(limit, new, texts, None, "failed", f"it is {after} now")
    if not math.isfinite(before):
        return _gate(limit, new, texts, None, "undecided", f"it is {before} in the baseline")
    if limit.unit == "%" and not before:
        return _gate(limit, new, texts, None, "undecided", "a change in per cent of 0 is not defined")
    change = {"%": 100 / abs(before) if before else 0.0, "pp": 100.0}.get(limit.unit, 1.0) * (after - before)
    change /= _BYTES.get(limit.unit, 1.0)
    return _gate(limit, new, texts, change, "failed" if limit.beyond(change) else "passed")


def _new_mismatch(pair: Pair) -> str:
    old, new = pair
    compared = "wrong" in old.facts.get("agreement", {})
    not_compared = "the baseline was not compared with this machine"
    return new.mismatch_reason if compared else f"{new.mismatch_reason} ({not_compared})"


def _values(limit: Limit, pair: Pair) -> tuple[tuple[str, ...], tuple[float | None, float | None]] | None:
    """Both values as text and as numbers; None if neither row has the limit's metric."""
    if limit.quantity == "size":
        old, new = (m.size_bytes for m in pair)
        return (f"{old / 1e3:.1f} kB", f"{new / 1e3:.1f} kB"), (old, new)
    if limit.quantity == "memory":
        used = [memory(m) for m in pair]
        return tuple(f"{u / 1e6:.1f} MB" if u is not None else "-" for u in used), (used[0], used[1])
    metrics = [m.metric if m.metric and limit.quantity in (ANY_METRIC, m.metric.name) else None for m in pair]
    for metric in metrics:
        if metric and limit.quantity == ANY_METRIC and limit.direction != (-1 if metric.higher_is_better else 1):
            unit = limit.unit if metric.unit == "fraction" else "%"
            better, sign = ("higher", "<-") if metric.higher_is_better else ("lower", ">+")
            why = f"{metric.name} is better when {better}, so it would pass what is worse"
            next = f"write {metric.name}{sign}{limit.amount:g}{unit}"
            raise InputError(f"--fail-if {limit.text!r} does not apply", why, next)
        if metric and limit.unit == "pp" and metric.unit != "fraction":
            why = f"{metric.name} is not a fraction"
            raise InputError(f"--fail-if {limit.text!r} does not apply", why, "write the limit in %")
    if not any(metrics):
        return None
    texts = tuple(metric_text(metric, metric.value) if metric else "-" for metric in metrics)
    return texts, (metrics[0].value if metrics[0] else None, metrics[1].value if metrics[1] else None)


def _gate(
    limit: Limit,
    m: Measurement,
    texts: Sequence[str],
    change: float | None,
    state: Literal["passed", "failed", "undecided"],
    why: str = "",
    interval: tuple[float, float] | None = None,
) -> Gate:
    before, after = texts
    known = interval if interval and all(map(math.isfinite, interval)) else None
    row = limit.text, m.artifact, m.target, m.runtime, plan(m)
    return Gate(*row, before, after, change, limit.unit, state, why, known, _value_ci(limit, m))


def _value_ci(limit: Limit, m: Measurement) -> str:
    """The 95 % interval of the value that the limit is on."""
    if limit.quantity == "p50" and m.latency_ms:
        return "{} to {} ms".format(*map(number, m.latency_ms.ci95))
    if limit.is_metric and m.metric:
        metric = m.metric
        return " to ".join(metric_text(metric, edge) for edge in metric.ci95)
    return ""


def check_metrics(limits: Sequence[Limit], row_pairs: Sequence[Pair]) -> None:
    """Raises InputError for a limit on a metric that no row has: a misspelt limit must not pass."""
    metrics = {m.metric.name for pair in row_pairs for m in pair if m.metric}
    for limit in limits:
        if limit.is_metric and limit.quantity != ANY_METRIC and limit.quantity not in metrics:
            known = ", ".join(sorted({*metrics, ANY_METRIC, *UNITS}))
            raise InputError(f"--fail-if {limit.text!r}: no row has {limit.quantity!r}", next=f"use one of {known}")


def check_applied(limits: Sequence[Limit], gates: Sequence[Gate]) -> None:
    """Raises InputError for a limit that no row was checked against: it must not pass."""
    for limit in limits:
        if not any(gate.limit == limit.text for gate in gates):
            what = f"--fail-if {limit.text!r} was checked on nothing"
            raise InputError(what, f"no row has {limit.quantity!r}", "edgekit bench RUN, or leave this limit out")
