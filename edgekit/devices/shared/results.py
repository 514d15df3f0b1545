"""The runner's result as a remote device sent it: every field is checked against the job before it is used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit.core.artifact import TensorSpec
from edgekit.core.device import Job
from edgekit.devices.shared.arrays import array_bytes
from edgekit.devices.shared.job import DRIVER, min_runs
from edgekit.devices.shared.untrusted import invalid, json_object, record, shown
from edgekit.ondevice.runner import SCHEMA

RESULT = "result.json"
#: the largest result: some millions of times
RESULT_BYTES = 64 << 20
#: the largest `.npy` header
HEADER_BYTES = 1 << 14
#: bytes of an element, at most
WIDEST = 8
#: the largest output whose size the model leaves open, over all samples
OPEN_BYTES = 4 << 30
#: rows of a sample's output whose first axis is open, such as the boxes in an image
OPEN_ROWS = 4096
#: an operator's profile may leave these beside the result: files of any plain name, such as the optimized model
PROFILE_FILES, PROFILE_BYTES = 16, 256 << 20
#: an inference does not take longer than this many nanoseconds (eleven days)
LONGEST_NS = 10**15
#: facts that edgekit itself records: a runtime's facts cannot replace them
OWN_FACTS = frozenset(
    "cpu board arch isa cores memory_bytes governor os packages libraries emulator agreement instructions batch "
    "load_average temperature_c energy_mj energy_source".split()
)
MOST_FACTS, LONGEST_FACT = 40, 500


@dataclass(frozen=True)
class Failure:
    """Why the job failed on the device, in the runner's words (`ondevice/runner.py`)."""

    kind: Literal["missing", "model", "input", "run", "memory"]
    what: str


@dataclass(frozen=True)
class Common:
    """Every result. `outputs`: name → path on the device; times are in milliseconds, memory in bytes."""

    load_ms: float
    floor_rss_bytes: int
    peak_rss_bytes: int
    outputs: Mapping[str, str]
    facts: Mapping[str, Any]
    output_batch: int = 0
    profile: Mapping[str, Any] | None = None
    sustained: Mapping[str, Any] | None = None

    def problems(self) -> Iterator[str]:
        for name in ("load_ms", "floor_rss_bytes", "peak_rss_bytes", "output_batch"):
            if getattr(self, name) < 0:
                yield f"{name} is {getattr(self, name)}"
        if len(self.facts) > MOST_FACTS:
            yield f"it has {len(self.facts)} facts"
        for name, value in self.facts.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name in OWN_FACTS:
                yield f"{shown(name, 40)!r} is not a fact of a runtime"
            if not isinstance(value, str | int | float | None) or len(str(value)) > LONGEST_FACT:
                yield f"the fact {name} is not a short text or a number"


@dataclass(frozen=True)
class Watch:
    """What else the machine did during the timed loop."""

    cpu_share: float
    steal_share: float
    throttled: int
    load_average: float


@dataclass(frozen=True)
class Latency:
    """`times_ns`: of each inference; `cpu_ns`: its CPU time, if known; `batch`: samples per inference;
    `first_token_ns`: of each request to a model that generates text, the time until the first token was known.

    The long lists are checked as a whole.
    """

    first_ms: float
    warmups: int
    steady: bool
    batch: int
    times_ns: list  # type: ignore[type-arg]
    watch: Mapping[str, Any]
    cpu_ns: list | None = None  # type: ignore[type-arg]
    energy_mj: float | None = None
    energy_source: str = ""
    first_token_ns: list | None = None  # type: ignore[type-arg]

    def problems(self) -> Iterator[str]:
        if self.first_ms < 0 or self.warmups < 0 or not 1 <= self.batch <= 1 << 20 or (self.energy_mj or 0) < 0:
            yield "first_ms, warmups, batch or energy_mj is out of range"
        if not all(type(time) is int and 0 < time < LONGEST_NS for time in self.times_ns):
            yield "times_ns are not all positive integers"
        if not all(type(time) is int and 0 <= time < LONGEST_NS for time in self.cpu_ns or ()):
            yield "cpu_ns are not all integers"
        if self.cpu_ns and len(self.cpu_ns) != len(self.times_ns):
            yield f"it has {len(self.times_ns)} times_ns and {len(self.cpu_ns)} cpu_ns"
        if firsts := self.first_token_ns:
            if len(firsts) != len(self.times_ns):
                yield f"it has {len(self.times_ns)} times_ns and {len(firsts)} first_token_ns"
            elif not all(type(t) is int and 0 < t <= whole for t, whole in zip(firsts, self.times_ns, strict=True)):
                yield "first_token_ns are not all positive integers within their request"


LATENCY = tuple(Latency.__dataclass_fields__)


def answered_files(job: Job) -> dict[str, int]:
    """The files that a device may answer the job with: name → bytes at most."""
    count = samples(job)
    outputs = {f"output{i}.npy": _most_bytes(spec, count) for i, spec in enumerate(expected_outputs(job))}
    return {RESULT: RESULT_BYTES, **outputs}


def expected_outputs(job: Job) -> tuple[TensorSpec, ...]:
    """The outputs that the job computes; what runs around a model, if anything does, has one, of any shape."""
    if not job.outputs:
        return ()
    if job.new_tokens:
        return (TensorSpec("tokens", "int64", (None, job.new_tokens)),)
    return (TensorSpec("", "int64", ()),) if DRIVER in job.artifact.files else job.artifact.outputs


def samples(job: Job) -> int:
    """The number of samples of the job's inputs."""
    return min((array_bytes(path)[0][0] for path in job.inputs.values()), default=0)


def result_of(out: Path, name: str, job: Job) -> dict[str, Any]:
    """The result that the runner on `name` wrote to `out`, with the local paths of its outputs.

    Raises DeviceError if it is invalid: truncated, not JSON, of another version, incomplete, with a value that cannot
    be, or with other outputs than the model's.
    """
    try:
        if not (out / RESULT).is_file() or (out / RESULT).stat().st_size > RESULT_BYTES:
            raise ValueError(f"there is no {RESULT} of at most {RESULT_BYTES >> 20} MB")
        result = json_object((out / RESULT).read_bytes())
        _check(result, out, job)
    except (ValueError, OSError) as error:
        raise invalid(name, error) from error
    return result


def _check(result: dict[str, Any], out: Path, job: Job) -> None:
    """Raises ValueError with a sentence."""
    if result.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {result.get('schema')!r}, not {SCHEMA}")
    fields = {name: value for name, value in result.items() if name not in ("schema", "error")}
    if result.get("error") is not None or "error" not in result:
        if not isinstance(result.get("error"), dict):
            raise ValueError("its error is not an object")
        failure = record(Failure, result["error"])
        result["error"] = {"kind": failure.kind, "what": shown(failure.what, 500)}
        return
    timed = {name: fields.pop(name) for name in LATENCY if name in fields}
    common = record(Common, fields)
    result["facts"] = {key: shown(v, LONGEST_FACT) if isinstance(v, str) else v for key, v in common.facts.items()}
    if job.latency:
        latency = record(Latency, timed)
        record(Watch, latency.watch)
        if len(latency.times_ns) < min_runs(job):
            raise ValueError(f"it has {len(latency.times_ns)} times; {min_runs(job)} were asked for")
        if job.artifact.states and not latency.first_token_ns:
            raise ValueError("it has no first_token_ns")
        result["energy_source"] = shown(latency.energy_source)
    if job.sustained:
        _check_windows(common.sustained)
    if job.profile and common.profile is not None:
        _check_profile(common.profile)
    result["outputs"] = _outputs(common.outputs, out, job)


def _check_windows(windows: Mapping[str, Any] | None) -> None:
    """A list for each quantity, one entry per time window (`runner.sustained`)."""
    columns = {name: value for name, value in (windows or {}).items() if name not in ("energy_mj", "energy_source")}
    known = {"seconds", "p50_ms", "p90_ms", "inferences", "temperature_c", "frequency_mhz", "throttled", "power_w"}
    if set(columns) != known or not all(isinstance(column, list) for column in columns.values()):
        raise ValueError("its sustained run lacks a quantity")
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("the quantities of its sustained run are not equally long")
    for name, column in columns.items():
        always = name in ("seconds", "p50_ms", "p90_ms", "inferences")
        if not all(isinstance(value, int | float) or (value is None and not always) for value in column):
            raise ValueError(f"{name} of its sustained run are not all numbers")
        if always and not all(value >= 0 for value in column):
            raise ValueError(f"{name} of its sustained run are not all positive")
    energy, source = (windows or {}).get("energy_mj"), (windows or {}).get("energy_source", "")
    if not isinstance(energy, int | float | None) or not isinstance(source, str):
        raise ValueError("the energy of its sustained run is not a number with its source")


def _check_profile(profile: Mapping[str, Any]) -> None:
    """`runs`, and `rows` whose columns the runtime's class describes."""
    rows = profile.get("rows")
    if type(profile.get("runs")) is not int or not isinstance(rows, list | tuple):
        raise ValueError("its profile lacks runs or rows")
    if not all(isinstance(row, list) for row in rows):
        raise ValueError("the rows of its profile are not all lists")


def _outputs(paths: Mapping[str, str], out: Path, job: Job) -> dict[str, str]:
    """Name → local path of each output, which is the one that the model has."""
    specs, count = expected_outputs(job), samples(job) if job.outputs else 0
    if len(paths) != len(specs):
        raise ValueError(f"it has {len(paths)} outputs, and the model has {len(specs)}")
    local = {}
    for index, (key, path) in enumerate(paths.items()):
        # the runner writes them in the model's order
        file = out / f"output{index}.npy"
        if Path(path).name != file.name or not file.is_file():
            raise ValueError(f"its output {shown(key)} is not in {file.name}")
        shape, dtype = array_bytes(file)
        if not shape or shape[0] != count:
            raise ValueError(f"its output {shown(key)} has the shape {list(shape)}, for {count} samples")
        if not _fits(specs[index], shape[1:]):
            raise ValueError(
                f"its output {shown(key)} has the shape {list(shape)}, the model's has {list(specs[index].shape)}"
            )
        if math.prod(shape) * dtype.itemsize > _most_bytes(specs[index], count):
            raise ValueError(f"its output {shown(key)} is too large: {list(shape)}")
        local[key] = str(file)
    return local


def _fits(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    """Can a sample's output have this shape: a row of the batch, or the whole output of one sample?

    A shape of no axes is also that of an output whose number of axes is unknown.
    """
    if not spec.shape:
        return True
    return any(
        len(own) == len(shape) and all(size in (None, actual) for size, actual in zip(own, shape, strict=True))
        for own in (spec.shape[1:], spec.shape)
    )


def _most_bytes(spec: TensorSpec, count: int) -> int:
    """The largest size of the file of one output over `count` samples."""
    if not spec.shape or None in spec.shape[1:]:
        return HEADER_BYTES + OPEN_BYTES
    row = math.prod(size for size in spec.shape[1:] if size is not None) * count * WIDEST
    if spec.shape[0] is not None:
        return HEADER_BYTES + row * max(1, spec.shape[0])
    return HEADER_BYTES + max(row, min(row * OPEN_ROWS, OPEN_BYTES))
