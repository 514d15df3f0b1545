"""Records of a measurement: runs, metrics, latencies, verdicts, parity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.config import known_items
from edgekit.core.target import Provenance

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Process:
    """Raw results of one runner process. `times_ns` holds one entry per timed inference, in order.

    `cpu_ns`: the CPU time of all threads in each, which other programs hardly change; empty from a device that does not
    report it. `first_token_ns`: of requests to a model that generates text, the part of each until the first token.
    """

    times_ns: tuple[int, ...]
    load_ms: float
    first_ms: float
    warmups: int
    peak_rss_bytes: int
    floor_rss_bytes: int
    cpu_ns: tuple[int, ...] = ()
    first_token_ns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """A device's results: outputs (name → array, first axis the sample), raw times, facts.

    `output_batch`: how many samples were run at once for the outputs; 0 if unknown. `clock`: what its latency is to be
    taken from, "cpu" if other programs used the core and one thread was measured; `contention` says how. `cut`: how
    many of the planned processes it has, if the time limit was reached.
    """

    artifact: str
    target: str
    runtime: str
    provenance: Provenance
    outputs: Mapping[str, NDArray[Any]]
    processes: tuple[Process, ...]
    facts: Mapping[str, Any]
    invalid: tuple[str, ...] = ()
    output_batch: int = 0
    clock: Literal["wall", "cpu"] = "wall"
    contention: str = ""
    cut: str = ""


@dataclass(frozen=True)
class Metric:
    """A task's metric over a set; `drop_*` compare it, paired, with the artifact named in `against`.

    A positive drop is worse. It is in percentage points if the unit is "fraction", else in per cent of the other's
    value.
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
    #: McNemar's two-sided p-value, if the metric is a fraction of correct samples
    drop_p: float | None = None
    against: str | None = None
    correct_file: str | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds per inference of one batch, or per request for `new_tokens` after a `prompt` of so many; `ci95` is
    the interval of p50.

    `clock`: "cpu" if they are CPU time, where other programs used the core. `per_process_cpu`: the median CPU time of
    each process, if the device reports it.
    """

    p50: float
    p90: float
    p99: float
    ci95: tuple[float, float]
    processes: int
    runs: int
    threads: int
    batch: int
    per_process_p50: tuple[float, ...]
    clock: Literal["wall", "cpu"] = "wall"
    per_process_cpu: tuple[float, ...] = ()
    prompt: int = 0
    new_tokens: int = 0

    @property
    def plan(self) -> tuple[int, int, int, int]:
        """What two latencies must have in common to be compared: threads, batch, tokens of the prompt and new ones."""
        return self.threads, self.batch, self.prompt, self.new_tokens


def plan_text(threads: int, batch: int, prompt: int, new_tokens: int) -> str:
    """`Latency.plan` in words."""
    request = f", {prompt} + {new_tokens} tokens" if new_tokens else ""
    return f"{threads} thread{'s' * (threads != 1)}, batch {batch}{request}"


@dataclass(frozen=True)
class Generation:
    """The parts of a request's latency, in milliseconds: until the first token (TTFT), and for each further one.

    `cache_bytes`: of the states after the request, for the whole batch.
    """

    first_token_ms: Latency
    token_ms: Latency
    cache_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """Of each sample of the batch, after the first token."""
        return 1e3 / self.token_ms.p50


@dataclass(frozen=True)
class Ratio:
    """The ratio of two latencies, `value` = a / b, with its 99 % interval. They differ if the interval excludes 1.

    An interval of NaN, of too few processes, excludes nothing.
    """

    value: float
    ci99: tuple[float, float]

    @property
    def differs(self) -> bool:
        return self.ci99[0] > 1 or self.ci99[1] < 1


@dataclass(frozen=True)
class Verdict:
    """Whether an accuracy budget is met, missed or undecided, and how many samples would decide it.

    `reason`: why no number of these samples would, "" if some would.
    """

    state: Literal["met", "missed", "undecided"]
    budget_pp: float
    set: str
    samples_to_decide: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Parity:
    """How close an artifact's outputs are to those of `against`, over the same samples (SQNR, largest error).

    `kl`: the mean Kullback-Leibler divergence of the class probabilities in nats, None for other outputs. `constant`:
    the first output that is the same for all samples, and is not in `against`. `neighbour_agreement`: of an embedding,
    the share of samples whose nearest other sample is the same.
    """

    against: str
    sqnr_db: float
    max_abs: float
    top1_agreement: float | None
    samples: int = 0
    per_output: Mapping[str, float] = field(default_factory=dict)
    kl: float | None = None
    constant: str = ""
    neighbour_agreement: float | None = None


@dataclass(frozen=True)
class Measurement:
    """One artifact on one target in one runtime: one row of a report (`measurements` in the JSON schema).

    Sizes are bytes, times milliseconds. `metric`, `latency_ms`, `parity` and `verdict` are None if unknown.
    `generation`: of a model with states, whose latency is that of a request.

    Examples:
        >>> measurement = edgekit.compare("runs/mnist")[0]
        >>> measurement.latency_ms.p50 > 0, 0 <= measurement.metric.value <= 1
        (True, True)
    """

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
    generation: Generation | None = None

    def problems(self) -> Iterator[str]:
        """What is read of `facts` has the types that it is used with."""
        hints = {"agreement": Mapping[str, Any], "instructions": float, "energy_mj": float, "cpu": str}
        yield from known_items(self.facts, hints)

    @property
    def mismatch_reason(self) -> str:
        """Why the device's outputs do not match the host's, or "" (see `edgekit.measure.host_parity`).

        Examples:
            >>> edgekit.compare("runs/mnist")[0].mismatch_reason
            ''
        """
        return str(self.facts.get("agreement", {}).get("wrong", ""))
