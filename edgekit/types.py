"""The nouns of edgekit: frozen records that flow from recipe to report, and the protocols around them.

Nothing here imports numpy or a runtime, so the command line can use it while starting.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = "edgekit/1"

T = TypeVar("T")

#: Traits that name a numeric precision; they end up in the artifact's name.
PRECISIONS = ("int8", "fp16", "dynamic")

Provenance = Literal["measured", "emulated", "simulated-instructions", "estimated"]

#: A step field that names another artifact of the recipe, or a file; the artifact becomes a parent.
ArtifactRef = Annotated[str, "artifact"]


@dataclass(frozen=True)
class Kind:
    """A format plus traits: `onnx`, `onnx[int8]`, `torch[ranges]`."""

    format: str
    traits: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Kind:
        format, _, traits = text.partition("[")
        return cls(format, frozenset(t for t in traits.removesuffix("]").split(",") if t))

    @property
    def precision(self) -> str:
        """The trait that names a precision, or "" for plain float."""
        return next((p for p in PRECISIONS if p in self.traits), "")

    @property
    def stem(self) -> str:
        """FORMAT[-PRECISION], the second half of an artifact's name."""
        return f"{self.format}-{self.precision}" if self.precision else self.format

    @property
    def is_model(self) -> bool:
        """Is it something to run? Activation ranges are an artifact, but not that."""
        return self.format != "ranges"

    def __str__(self) -> str:
        return self.format + (f"[{','.join(sorted(self.traits))}]" if self.traits else "")


def kinds(*texts: str) -> frozenset[Kind]:
    """The predicate a step's `takes` is: the set of kinds it accepts."""
    return frozenset(Kind.parse(text) for text in texts)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. `shape` holds None where the size is dynamic; the first axis is the batch.

    `quantization` is (scale, zero_point) where the tensor is stored as integers: real = scale * (stored - zero_point).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantization: tuple[float, int] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        quantization = data.get("quantization")
        return cls(
            data["name"],
            data["dtype"],
            tuple(data["shape"]),
            (float(quantization[0]), int(quantization[1])) if quantization else None,
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk by part. `weights`: constant tensors of rank 2 or more, without biases, scales, zero points."""

    total: int
    weights: int
    graph: int
    metadata: int


@dataclass(frozen=True)
class Operator:
    """One node of a model's graph: its type, its name, the parameters it holds and the MACs of one sample.

    `weight_bytes` are those of its constants, `activation_bytes` those of what it writes for one sample; open axes
    count as 1. None: not known.
    """

    type: str
    name: str
    parameters: int = 0
    macs: int | None = None
    weight_bytes: int = 0
    activation_bytes: int | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a format's reader found in a model file, without running it.

    `axes`: tensor name → open axis → the name the file gives it. `peak_bytes`: the most memory that activations of one
    sample need at once. `quantized`: how, in a few words, "" for plain float32. `slow`: what may make it slow.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Sizes
    traits: frozenset[str] = frozenset()
    parameters: int = 0
    operators: tuple[Operator, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    peak_bytes: int | None = None
    quantized: str = ""
    slow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parent:
    role: str
    name: str
    id: str


@dataclass(frozen=True)
class Artifact:
    """One model in one kind, as recorded in its folder's `artifact.json`. Only the store makes one."""

    name: str
    id: str
    kind: Kind
    step: str
    fields: Mapping[str, Any]
    parents: tuple[Parent, ...]
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Sizes
    files: Mapping[str, str]
    path: Path
    scheme: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def parent(self, role: str = "parent") -> Parent | None:
        return next((p for p in self.parents if p.role == role), None)

    @property
    def chain(self) -> str:
        """The chain part of the name: "prune50" for "prune50.onnx", "" for "onnx"."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class SampleSet:
    """Some samples: one array per input name, first axis the sample; labels where there are any.

    Arrays keep their compact dtype (images are uint8); a runner casts them to what the model takes. Large ones are
    read-only np.memmap. `skipped`: samples that could not be read, and why; `notes`: what was done to others, in a
    sentence each (cut, resampled).
    """

    name: str
    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None
    sha256: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values()))) if self.inputs else 0


@dataclass(frozen=True)
class Plan:
    """How to measure. Times in seconds; `batch` and `threads` are what the latency is measured with."""

    threads: int = 1
    batch: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    processes: int = 15
    seconds: float = 0.15
    warmup_seconds: float = 0.1
    min_runs: int = 10
    samples: int = 0
    timeout: float = 600.0
    #: seconds of one inference after another, with temperature and clock over time; 0: not at all
    sustained: float = 0.0

    def problems(self) -> Iterator[str]:
        for name in ("threads", "batch", "processes", "min_runs"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        if self.seconds <= 0 or self.warmup_seconds < 0 or self.timeout <= 0:
            yield "seconds and timeout must be positive, warmup_seconds not negative"
        if self.samples < 0:
            yield "samples must be 0 (all) or more"
        if self.sustained < 0:
            yield "sustained must be 0 (not at all) or more seconds"


#: what --quick and --thorough change of a plan
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"processes": 5, "seconds": 0.1},
    "thorough": {"processes": 30, "seconds": 0.2},
}


@dataclass(frozen=True)
class Target:
    """A board, a phone or this host: how it is reached and what it can run."""

    name: str
    title: str
    device: str
    arch: str = ""
    isa: tuple[str, ...] = ()
    cores: int = 0
    memory_mb: int = 0
    runtimes: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    #: where it is: [user@]host[:port] for ssh; never in a shipped file
    address: str = ""
    #: the Python to run there
    python: str = "python3"
    #: what qemu emulates: a processor of its list, and the system, "pi" or "phone"
    cpu: str = ""
    system: str = ""
    #: runtime → the C library to push to a phone; without it the one of the Linux wheel
    libraries: Mapping[str, str] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        from edgekit.devices._address import problems

        return problems(self)

    @property
    def isa_class(self) -> str:
        """The instruction-set class that decides an int8 scheme: x86-vnni, x86, arm64, …"""
        if self.arch in ("x86_64", "amd64", "x86"):
            return "x86-vnni" if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(self.isa) else "x86"
        return {"aarch64": "arm64"}.get(self.arch, self.arch)


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
        """Why the device computes something else than the artifact, "" where it does not (`edgekit.agreement`)."""
        return str(self.facts.get("agreement", {}).get("wrong", ""))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        nested = {"metric": Metric, "latency_ms": Latency, "verdict": Verdict, "parity": Parity}
        values = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name, kind in nested.items():
            values[name] = from_json(kind, values.get(name))
        return cls(**{k: _tuples(v) for k, v in values.items()})


def from_json(cls: type[T], data: Mapping[str, Any] | None) -> T | None:
    """A flat record from its JSON object; lists become tuples. None stays None."""
    return None if data is None else cls(**{key: _tuples(value) for key, value in data.items()})


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Step:
    """An arrow from artifacts to an artifact; a step is a frozen dataclass whose fields are its options.

    `takes` the kinds its parent may have (empty: it starts a chain), `gives` the kind it makes, `keeps` what it
    promises to preserve (an exporter the outputs, a compressor only the accuracy), `needs` the extra it is in,
    `tools` the distributions whose versions enter the artifact's id.
    """

    takes: ClassVar[frozenset[Kind]] = frozenset()
    gives: ClassVar[Kind]
    keeps: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "nothing"
    needs: ClassVar[str] = ""
    tools: ClassVar[tuple[str, ...]] = ()

    def check(self, task: Task | None) -> Iterator[str]:
        """What is wrong with the fields, a sentence each."""
        yield from ()

    def resolve(self, target: Target) -> Self:
        """This step with everything that depends on the device fixed, so that its id says what will be made."""
        return self

    def sets(self, task: Task | None) -> Mapping[str, str]:
        """Role → SET that this step reads; their sha256 enter the artifact's id."""
        return {}

    def sources(self) -> tuple[Path, ...]:
        """Source files beside the step's own that decide what is made (a network's); they enter the id."""
        return ()

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        """Write the model's files into `out`. Roles in `inputs`: "parent", and every ArtifactRef field."""
        raise NotImplementedError


@dataclass(frozen=True)
class Notes:
    """What a step says of the artifact it wrote, beyond what its files show.

    `tensors` maps the parent's tensor names to this artifact's.
    """

    scheme: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]: ...


def quiet(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Progress that shows nothing."""
    yield from items


@dataclass(frozen=True)
class Context:
    """What a step may use beside its inputs: the task, the sets it asked for, progress and log.

    What a long step writes into `scratch` is there again when it was interrupted and is started anew.
    """

    task: Task | None
    sets: Mapping[str, SampleSet]
    progress: Progress
    log: logging.Logger
    scratch: Path | None = None


class Task(Protocol):
    """Data splits, networks by name, a loss and a metric."""

    name: str
    licences: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The networks (files of `edgekit/models/`, or `net.py:Net`) this task offers, the default first."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index; empty for regression."""
        ...

    def load(self, split: str) -> SampleSet: ...

    def arguments(self, model: str) -> Mapping[str, Any]:
        """Keyword arguments, plain JSON values, that build `model` for this task."""
        ...

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean loss of a batch (torch tensors in, torch scalar out)."""
        ...

    def score(self, outputs: Mapping[str, NDArray[np.floating]], labels: NDArray[Any]) -> Scores: ...


@dataclass(frozen=True)
class Scores:
    """A metric over samples: the mean of one value per sample, or what `reduce` makes of one row per sample.

    A metric that is no mean (mIoU, mAP, AUC, RMSE, F1, …) gives `per_sample` as (samples, statistics) and a `reduce`
    that takes any choice of its rows, one drawn twice included: intervals are bootstrapped through it.
    """

    name: str
    unit: str
    higher_is_better: bool
    per_sample: NDArray[np.floating]
    reduce: Callable[[NDArray[Any]], float] | None = None

    @property
    def value(self) -> float:
        return float(self.per_sample.mean()) if self.reduce is None else float(self.reduce(self.per_sample))


class Scorer(Protocol):
    """Outputs by name and labels → one value per sample."""

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores: ...


@dataclass(frozen=True)
class Job:
    """One runner process to be: which runtime, which model files, which inputs, what to measure.

    `inputs` are arrays with the sample as first axis; outputs are wanted for all of them when `outputs` is set, in
    batches of `output_batch`; latency is measured over batches of `plan.batch` when `latency` is set, what a long load
    does to it when `sustained` is, and each operator's time when `profile` is.
    """

    artifact: Artifact
    runtime: str
    inputs: Mapping[str, Path]
    plan: Plan
    outputs: bool
    latency: bool
    sustained: bool = False
    profile: bool = False


class Device(Protocol):
    """How a target is reached: takes a job, gives back the runner's result and the folder of its outputs."""

    provenance: ClassVar[Provenance]

    def __init__(self, target: Target) -> None: ...

    def facts(self) -> Mapping[str, Any]:
        """What names this machine: cpu, isa, cores, …; part of a measurement's identity."""
        ...

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        """Run one job in a fresh process; outputs are left under `out`. Raises DeviceError or InputError."""
        ...
