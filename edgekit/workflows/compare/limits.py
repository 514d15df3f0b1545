"""Has anything become worse than a baseline? Limits as they are typed, and the verdict on each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.core.errors import GateFailed, InputError
from edgekit.core.measurement import Measurement, Ratio
from edgekit.report.rows import memory, metric_text, number

#: quantity → the units a change of it may have; any other word is the name of a metric
UNITS: Mapping[str, tuple[str, ...]] = {
    "p50": ("%", "ms"),
    "size": ("%", "kB", "MB"),
    "memory": ("%", "MB"),
}
METRIC_UNITS = ("pp", "%")
#: stands for whatever the metric is called
ANY_METRIC = "metric"
EXAMPLES = "p50>+5%, accuracy<-0.5pp or size>+2%"
_BYTES = {"kB": 1e3, "MB": 1e6}


@dataclass(frozen=True)
class Limit:
    """How far a quantity may move: `text` as it was typed, `amount` in `unit`, up (`direction` 1) or down (-1)."""

    text: str
    quantity: str
    direction: int
    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Limit:
        """`QUANTITY>+N UNIT` or `QUANTITY<-N UNIT`. Raises InputError, showing where it cannot be read."""
        position = 0

        def taken(pattern: str, expected: str) -> str:
            nonlocal position
            position += len(text[position:]) - len(text[position:].lstrip())
            found = re.compile(pattern).match(text, position)
            if found is None:
                seen = f"there is {text[position]!r}" if position < len(text) else "it ends"
                raise InputError(
                    f"--fail-if {text!r} cannot be read at character {position + 1}",
                    f"{expected} is expected where {seen}",
                    f"write it like {EXAMPLES}",
                )
            position = found.end()
            return found[0]

        quantity = taken(r"[^\W\d_][\w@²-]*(?: [^\W\d_][\w@²-]*)*", "a quantity (p50, size, memory or a metric's name)")
        sign = "+" if taken(r"[<>]", "> or <") == ">" else "-"
        taken(re.escape(sign), f"{sign} (a change, from the baseline)")
        amount = float(taken(r"\d+(?:\.\d+)?", "a number"))
        known = UNITS.get(quantity.lower(), METRIC_UNITS)
        unit = taken("(?:" + "|".join(map(re.escape, known)) + r")(?!\w)", f"a unit ({', '.join(known)})")
        taken(r"\Z", "the end")
        quantity = quantity.lower() if quantity.lower() in (*UNITS, ANY_METRIC) else quantity
        return cls(text, quantity, 1 if sign == "+" else -1, amount, unit)

    @property
    def is_metric(self) -> bool:
        return self.quantity not in UNITS

    def beyond(self, change: float) -> bool:
        """Is a change (in `unit`) further than may be? That of a last binary digit is none."""
        return self.direction * change > self.amount * (1 + 1e-9) + 1e-9


@dataclass(frozen=True)
class Gate:
    """One limit on one row. `change` is in the limit's unit, None where nothing can be said; `why` says why."""

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

    def sentence(self) -> str:
        moved = f" ({self.change:+.2f} {self.unit})" if self.change is not None else ""
        said = f"{self.artifact} on {self.target} in {self.runtime}: {self.before} before, {self.after} now{moved}"
        return f"{said}; {self.why}" if self.why else said

    def error(self, strict: bool = False) -> GateFailed | None:
        """Why it ends with 1; where `strict`, an undecided one does too."""
        if self.state == "failed":
            return GateFailed(f"{self.limit} failed", self.sentence(), "mend it, or accept it as the new baseline")
        if self.state == "undecided" and strict:
            next = "measure on an idle machine with --thorough, beside the baseline's run folder"
            if self.why.startswith(MISMATCH_BEFORE):
                next = "take another runtime or precision for it"
            return GateFailed(f"{self.limit} is undecided", self.sentence(), next)
        return None


Pair = tuple[Measurement, Measurement]
#: how the reason begins where the device computed something else already in the baseline
MISMATCH_BEFORE = "as in the baseline"


def pair_rows(before: Sequence[Measurement], after: Sequence[Measurement]) -> list[Pair]:
    """Rows of the baseline with those that took their place: same artifact name, target, runtime, threads and batch.

    Raises InputError where there is none, and where a pair's metrics are over different test sets.
    """
    now = {row_key(m): m for m in after}
    found = [(m, now[row_key(m)]) for m in {row_key(m): m for m in before}.values() if row_key(m) in now]
    if not found:
        names = (", ".join(dict.fromkeys(f"{m.artifact} on {m.target}" for m in side)) for side in (before, after))
        what = "nothing of the baseline was measured again"
        raise InputError(what, "it has {}; now there is {}".format(*names), "bench the same artifact names and target")
    for old, new in found:
        if old.metric and new.metric and old.metric.set_sha256 != new.metric.set_sha256:
            sets = (f"{m.samples:,} samples, set {m.set_sha256[:12]}" for m in (old.metric, new.metric))
            why = "{} in the baseline, {} now".format(*sets)
            raise InputError(f"{new.artifact} was measured on another test set", why, "measure both on the same set")
    return found


def row_key(m: Measurement) -> tuple[str, str, str, str]:
    """What makes a row the same row."""
    return m.artifact, m.target, m.runtime, plan(m)


def plan(m: Measurement) -> str:
    latency = m.latency_ms
    return f"{latency.threads} threads, batch {latency.batch}" if latency else ""


def missing_rows(before: Sequence[Measurement], after: Sequence[Measurement]) -> Iterator[str]:
    """What the baseline has and nobody measured now."""
    now = {row_key(m) for m in after}
    for m in before:
        if row_key(m) not in now:
            yield f"{m.artifact} on {m.target} in {m.runtime} is in the baseline and was not measured now"


def evaluate(limit: Limit, pair: Pair, ratio: Ratio | str | None) -> Gate | None:
    """The verdict on a row; None where the limit is not about it. `ratio` is p50 now over p50 before, or why not.

    Accuracy, size and memory are judged by their values: the samples are the same, a file is as large as it is. A
    latency fails where its change is beyond the limit and the 99 % interval of the ratio leaves out 1. Where the device
    computes something else now than the artifact, and did not before, its accuracy and latency fail whatever they are;
    where it did before too, they do not pass.
    """
    gate = _evaluate(limit, pair, ratio)
    about = limit.is_metric or limit.quantity == "p50"
    if gate and gate.state == "passed" and about and pair[1].mismatch_reason:
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
            why = ratio if isinstance(ratio, str) else "it was not measured in both"
            return _gate(limit, new, texts, None, "undecided", why)
        change = ratio.value - 1
        change *= 100 if limit.unit == "%" else new.latency_ms.p50 / ratio.value
        if not limit.beyond(change):
            state, why = "passed", ""
        elif ratio.differs:
            state, why = "failed", "99 % interval of the ratio {:.3f} to {:.3f}".format(*ratio.ci99)
        else:
            state, why = "undecided", "noise: the ratio's 99 % interval, {:.3f} to {:.3f}, holds 1".format(*ratio.ci99)
        return _gate(limit, new, texts, change, state, why)
    values = _values(limit, pair)
    if values is None:
        return None
    texts, (before, after) = values
    if new.mismatch_reason and not old.mismatch_reason and limit.is_metric:
        return _gate(limit, new, texts, None, "failed", _new_mismatch(pair))
    if before is None or after is None:
        return _gate(limit, new, texts, None, "undecided", "it was not measured in both")
    if limit.unit == "%" and not before:
        return _gate(limit, new, texts, None, "undecided", "per cent of nothing")
    change = {"%": 100 / abs(before) if before else 0.0, "pp": 100.0}.get(limit.unit, 1.0) * (after - before)
    change /= _BYTES.get(limit.unit, 1.0)
    return _gate(limit, new, texts, change, "failed" if limit.beyond(change) else "passed")


def _new_mismatch(pair: Pair) -> str:
    old, new = pair
    known = "wrong" in old.facts.get("agreement", {})
    return new.mismatch_reason if known else f"{new.mismatch_reason} (the baseline was not compared with this machine)"


def _values(limit: Limit, pair: Pair) -> tuple[tuple[str, ...], tuple[float | None, float | None]] | None:
    """Both sides as text and as numbers; None where neither has the metric that is asked for."""
    if limit.quantity == "size":
        old, new = (m.size_bytes for m in pair)
        return (f"{old / 1e3:.1f} kB", f"{new / 1e3:.1f} kB"), (old, new)
    if limit.quantity == "memory":
        used = [memory(m) for m in pair]
        return tuple(f"{u / 1e6:.1f} MB" if u is not None else "-" for u in used), (used[0], used[1])
    metrics = [m.metric if m.metric and limit.quantity in (ANY_METRIC, m.metric.name) else None for m in pair]
    for metric in metrics:
        if metric and limit.unit == "pp" and metric.unit != "fraction":
            why = f"{metric.name} is no fraction"
            raise InputError(f"--fail-if {limit.text!r} has no meaning here", why, "write it in %")
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
) -> Gate:
    before, after = texts
    return Gate(limit.text, m.artifact, m.target, m.runtime, plan(m), before, after, change, limit.unit, state, why)


def check_metrics(limits: Sequence[Limit], found: Sequence[Pair]) -> None:
    """Raises InputError for a limit on a metric that no row has: a misspelt gate must not pass."""
    there = {m.metric.name for pair in found for m in pair if m.metric}
    for limit in limits:
        if limit.is_metric and limit.quantity != ANY_METRIC and limit.quantity not in there:
            known = ", ".join(sorted({*there, ANY_METRIC, *UNITS}))
            raise InputError(f"--fail-if {limit.text!r}: nothing here has {limit.quantity!r}", next=f"there is {known}")
