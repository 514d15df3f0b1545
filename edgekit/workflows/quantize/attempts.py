"""The records of a method search: one attempt per method, and all attempts of one format."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Latency, Ratio
from edgekit.core.statistics import below_floor
from edgekit.measure.context import Outcome
from edgekit.measure.verify import Finding

if TYPE_CHECKING:
    from edgekit.workflows.quantize.placement import Placement

METHODS = ("dynamic", "weight-only", "min-max", "percentile", "mse", "equalize", "gptq", "bias", "keep-float", "qat")

#: calibration methods: they choose ranges from the same statistics, so one pass over the samples serves them all
RANGE_METHODS = ("min-max", "percentile", "mse")

#: methods that need no calibration samples, and no torch network
WITHOUT_SAMPLES = ("dynamic", "weight-only")

#: with --fast: the one that did best most often, and those that are tried where it is no faster than float
FAST = (*WITHOUT_SAMPLES, "mse")

#: methods that cost latency or training, tried only if the others do not keep the budget
COSTLY = ("keep-float", "qat")


#: methods that seldom bring more than a few tenths of a decibel after GPTQ: tried with --thorough
SELDOM = ("bias",)

#: the least gain in decibels for which a method's network is taken further
GAIN_DB = 0.5


@dataclass(frozen=True)
class Attempt:
    """One attempt of a method: its artifact and the finding on the first half, or the reason why it failed.

    `seconds` is the time it took to make, `ratio` its p50 over the float model's.
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
        """met, undecided or missed; "" without a budget."""
        return self.finding.verdict.state if self.finding and self.finding.verdict else ""

    @property
    def usable(self) -> bool:
        return self.finding is not None and self.finding.failed in ("", "budget", "floor")

    @property
    def rank_key(self) -> tuple[float, ...]:
        """Larger is better: first the budget, then SQNR; if the budget is missed, accuracy before SQNR.

        What is below the floor comes after everything else.
        """
        assert self.finding is not None
        sqnr = self.finding.parity.sqnr_db if self.finding.parity else 0.0
        if self.finding.failed == "floor":
            return (-3.0, sqnr)
        metric = self.finding.metric
        if self.state == "missed" and metric and metric.drop_pp is not None:
            return (-2.0, -metric.drop_pp, sqnr)
        return (0.0 if self.state != "undecided" or self.within_budget else -1.0, sqnr)

    @property
    def within_budget(self) -> bool:
        """Is it within the budget, or undecided with a measured drop within it?

        Labels that decide nothing do not excuse what would be refused without labels, unless it was trained.
        """
        if self.finding and self.finding.failed == "floor":
            return False
        metric, verdict = (self.finding.metric, self.finding.verdict) if self.finding else (None, None)
        if verdict is None or metric is None or metric.drop_pp is None:
            return True
        if verdict.state != "undecided":
            return verdict.state == "met"
        parity = self.finding.parity if self.finding and self.method != "qat" else None
        return metric.drop_pp <= verdict.budget_pp and not (parity and below_floor(parity, labelled=False))


@dataclass
class QuantizeOutcome(Outcome):
    """The result of `quantize`; `searches`: one record per format."""

    searches: list[SearchRecord] = field(default_factory=list)


@dataclass
class SearchRecord:
    """One format. `chosen`: the best attempt, under its plain name; `confirmed`: its check on the second half.

    `machine`: what the times belong to (`attempt_times.machine`). `made`: the names of the artifacts that were made for
    the search only. `seconds`: what took how long (`remaining`). `not_timed`: why nothing was timed, "" if it was.
    """

    name: str
    target: str
    machine: str
    runtime: str
    reference: Artifact
    attempts: list[Attempt] = field(default_factory=list)
    best: Attempt | None = None
    chosen: Artifact | None = None
    confirmed: Finding | None = None
    reference_latency: Latency | None = None
    made: set[str] = field(default_factory=set)
    placement: Placement | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    not_timed: str = ""

    @property
    def slower(self) -> bool:
        """Is the chosen artifact significantly slower than the float model?"""
        ratio = self.best.ratio if self.best else None
        return ratio is not None and ratio.differs and ratio.value > 1

    @property
    def grown(self) -> bool:
        """Is the chosen file larger than the float model's?"""
        chosen, before = self.chosen, self.reference
        if chosen is None or chosen.kind.format != before.kind.format:
            return False
        return chosen.sizes.total > before.sizes.total

    @property
    def recommended(self) -> bool:
        """Within the budget on both halves, smaller than the float model, and not slower?"""
        kept = self.best is not None and self.best.within_budget and not (self.confirmed and self.confirmed.failed)
        return bool(self.chosen and kept and not self.slower and not self.grown)

    def to_json(self) -> dict[str, Any]:
        """Plain values; artifacts by name and id."""
        return {
            "name": self.name,
            "target": self.target,
            "machine": self.machine,
            "runtime": self.runtime,
            "against": self.reference.name,
            "against_bytes": self.reference.sizes.total,
            "against_latency_ms": _as_dict(self.reference_latency),
            "not_timed": self.not_timed,
            "chosen": self.best.method if self.best else None,
            "confirmed": _as_dict(self.confirmed),
            "recommended": self.recommended,
            "attempts": [_attempt_json(attempt) for attempt in self.attempts],
            "made": sorted(self.made),
            "placement": self.placement and self.placement.to_json(),
        }


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
        "metric": _as_dict(finding and finding.metric),
        "parity": _as_dict(finding and finding.parity),
        "verdict": _as_dict(finding and finding.verdict),
        "latency_ms": _as_dict(attempt.latency),
        "ratio": _as_dict(attempt.ratio),
    }


def _as_dict(record: Any) -> Any:
    return None if record is None else dataclasses.asdict(record)
