"""What was measured: runs, metrics, latencies, verdicts, parity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.json import from_json, tuples
from edgekit.core.target import Provenance

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Process:
    """Raw figures of one runner process. `times_ns` holds one entry per timed inference, in order."""

    times_ns: tuple[int, ...]
    load_ms: float
    first_ms: float
    warmups: int
    peak_rss_bytes: int
    floor_rss_bytes: int


@dataclass(frozen=True)
class Run:
    """What came back from a device: outputs (name → array, first axis the sample), raw times, facts."""

    artifact: str
    target: str
    runtime: str
    provenance: Provenance
    outputs: Mapping[str, NDArray[Any]]
    processes: tuple[Process, ...]
    facts: Mapping[str, Any]
    invalid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A task's figure of merit over a set; `drop_*` compare it, paired, with the artifact named in `against`.

    Drops are positive when worse: percentage points where the unit is "fraction", else per cent of the other's value.
    """

    name: str
    unit: str
    higher_is_better: bool
    value: float
    ci95: tuple[float, float]
    samples: int
    set_sha256: str
    drop_pp: float | None = None
    drop_ci95: tuple[float, float] | None = None
    #: McNemar's two-sided p-value, where the metric counts samples right or wrong
    drop_p: float | None = None
    against: str | None = None
    correct_file: str | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds per inference of one batch; `ci95` is of p50."""

    p50: float
    p90: float
    p99: float
    ci95: tuple[float, float]
    processes: int
    runs: int
    threads: int
    batch: int
    per_process_p50: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """How two latencies compare: `value` = a / b with its 99 % interval. They differ where it excludes 1."""

    value: float
    ci99: tuple[float, float]

    @property
    def differs(self) -> bool:
        return not self.ci99[0] <= 1 <= self.ci99[1]


@dataclass(frozen=True)
class Verdict:
    """A budget's answer: met, missed, or undecided, with how many samples would decide."""

    state: Literal["met", "missed", "undecided"]
    budget_pp: float
    set: str
    samples_to_decide: int | None = None


@dataclass(frozen=True)
class Parity:
    """How close an artifact's outputs are to those of `against`, over the same samples."""

    against: str
    sqnr_db: float
    max_abs: float
    top1_agreement: float | None
    samples: int = 0
    per_output: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """One artifact on one target in one runtime: the row of every report (the contract's `measurements`)."""

    artifact: str
    id: str
    parents: tuple[str, ...]
    format: str
    precision: str
    scheme: str
    target: str
    runtime: str
    provenance: Provenance
    size_bytes: int
    weight_bytes: int
    graph_bytes: int
    metadata_bytes: int
    metric: Metric | None
    latency_ms: Latency | None
    verdict: Verdict | None
    load_ms: float | None
    peak_rss_bytes: int | None
    floor_rss_bytes: int | None
    parity: Parity | None
    facts: Mapping[str, Any]
    session: str
    key: str = ""
    invalid: tuple[str, ...] = ()

    @property
    def wrong(self) -> str:
        """Why the device computes something else than the artifact, or "" (`edgekit.measure.host_parity`)."""
        return str(self.facts.get("agreement", {}).get("wrong", ""))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        nested = {"metric": Metric, "latency_ms": Latency, "verdict": Verdict, "parity": Parity}
        values = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name, kind in nested.items():
            values[name] = from_json(kind, values.get(name))
        return cls(**{k: tuples(v) for k, v in values.items()})
