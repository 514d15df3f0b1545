"""The records of a method search: one attempt per method, and all attempts of one format."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.core.artifact import Artifact
from edgekit.core.json import from_json
from edgekit.core.measurement import Latency, Ratio
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome
from edgekit.measure.verify import Finding

METHODS = ("dynamic", "min-max", "percentile", "mse", "equalize", "gptq", "bias", "keep-float", "qat")

#: those that only choose ranges: one pass over the samples serves them all
RANGE_METHODS = ("min-max", "percentile", "mse")

#: those that cost speed or training, tried only where the others do not keep the budget
COSTLY = ("keep-float", "qat")


@dataclass(frozen=True)
class Attempt:
    """A rung that was tried: what it made and how that did on the first half, or why it made nothing.

    `seconds` is what it cost to make, `ratio` its p50 over the float model's.
    """

    method: str
    artifact: Artifact | None = None
    finding: Finding | None = None
    seconds: float = 0.0
    failed: str = ""
    latency: Latency | None = None
    ratio: Ratio | None = None

    @property
    def state(self) -> str:
        """met, undecided or missed; "" where no budget was judged."""
        return self.finding.verdict.state if self.finding and self.finding.verdict else ""

    @property
    def usable(self) -> bool:
        return self.finding is not None and self.finding.failed in ("", "budget")

    @property
    def rank_key(self) -> tuple[float, ...]:
        """Larger is better: the budget first, then how near the outputs are; where it is missed, the accuracy first."""
        assert self.finding is not None
        sqnr = self.finding.parity.sqnr_db if self.finding.parity else 0.0
        metric = self.finding.metric
        if self.state == "missed" and metric and metric.drop_pp is not None:
            return (-2.0, -metric.drop_pp, sqnr)
        return (0.0 if self.state != "undecided" or self.within_budget else -1.0, sqnr)

    @property
    def within_budget(self) -> bool:
        """Within the budget, as far as the samples can tell."""
        metric, verdict = (self.finding.metric, self.finding.verdict) if self.finding else (None, None)
        if verdict is None or metric is None or metric.drop_pp is None:
            return True
        return verdict.state == "met" or (verdict.state == "undecided" and metric.drop_pp <= verdict.budget_pp)


@dataclass
class QuantizeOutcome(Outcome):
    """What `quantize` made; `searches`: one record per format whose methods were tried."""

    searches: list[SearchRecord] = field(default_factory=list)


@dataclass
class SearchRecord:
    """One format's climb. `chosen` is the best attempt under its plain name, `confirmed` its check on the second half.

    `made`: the names of all that was made for it alone.
    """

    name: str
    target: str
    runtime: str
    reference: Artifact
    attempts: list[Attempt] = field(default_factory=list)
    best: Attempt | None = None
    chosen: Artifact | None = None
    confirmed: Finding | None = None
    reference_latency: Latency | None = None
    made: set[str] = field(default_factory=set)

    @property
    def slower(self) -> bool:
        """Is the chosen one slower than the float model, beyond doubt?"""
        ratio = self.best.ratio if self.best else None
        return ratio is not None and ratio.differs and ratio.value > 1

    def to_json(self) -> dict[str, Any]:
        """Plain values; artifacts by name and id."""
        return {
            "name": self.name,
            "target": self.target,
            "runtime": self.runtime,
            "against": self.reference.name,
            "against_bytes": self.reference.sizes.total,
            "against_latency_ms": _plain(self.reference_latency),
            "chosen": self.best.method if self.best else None,
            "confirmed": _plain(self.confirmed),
            "recommended": bool(self.chosen and not self.slower and not (self.confirmed and self.confirmed.failed)),
            "attempts": [_attempt_json(attempt) for attempt in self.attempts],
            "made": sorted(self.made),
        }


def _kept_latencies(kept: Mapping[str, Any], models: list[Artifact], plan: Plan) -> list[Latency] | None:
    """The latencies of just these artifacts, where a ladder says that they were measured together before."""
    entries = {entry["id"]: entry.get("latency_ms") for entry in kept.get("attempts", []) if entry.get("id")}
    found = [from_json(Latency, kept.get("against_latency_ms"))]
    found += [from_json(Latency, entries.get(model.id)) for model in models[1:]]
    if any(latency is None or latency.threads != plan.threads for latency in found):
        return None
    return [latency for latency in found if latency]


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    artifact, finding = attempt.artifact, attempt.finding
    return {
        "method": attempt.method,
        "artifact": artifact and artifact.name,
        "id": artifact and artifact.id,
        "scheme": artifact and artifact.scheme,
        "size_bytes": artifact and artifact.sizes.total,
        "seconds": attempt.seconds,
        "failed": attempt.failed,
        "metric": _plain(finding and finding.metric),
        "parity": _plain(finding and finding.parity),
        "verdict": _plain(finding and finding.verdict),
        "latency_ms": _plain(attempt.latency),
        "ratio": _plain(attempt.ratio),
    }


def _plain(record: Any) -> Any:
    return None if record is None else dataclasses.asdict(record)
