"""Run artifacts on devices: `execute` is the only code that does.

Every number edgekit shows comes from a `Run` made here, in processes of their own, whether the target is this host, a
board or a phone. Labels never pass through.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.device import Job
from edgekit.core.errors import DeviceError, InputError, Missing, os_errors
from edgekit.core.measurement import Process, Run
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.devices.shared.job import OUTPUT_BATCH
from edgekit.measure import targets
from edgekit.ondevice.runner import release_pages
from edgekit.sets import take

#: how often a process that was disturbed is tried again before its run is called invalid
RETRIES = 3
#: below this share of CPU time per second of a single-threaded timed loop, something else used the core
MIN_CPU_SHARE = 0.95
#: above this share of the machine's time taken by the hypervisor, times are not the machine's own
MAX_STEAL_SHARE = 0.05
#: how much of a set is written at a time
PART_BYTES = 1 << 23
#: the part of a device's memory that samples on their way may take
CHUNK_SHARE = 8
#: samples that a sustained run goes round
SUSTAINED_SAMPLES = 16
#: outputs beyond this are looked at where they lie on disk
LARGE_BYTES = 1 << 27


def runtimes_for(artifact: Artifact, target: Target) -> tuple[str, ...]:
    """The target's runtimes that execute this artifact's format."""
    return tuple(name for name in target.runtimes if registry.runtime(name).takes(artifact.kind.format))


def runtime_for(artifact: Artifact, target: Target) -> str:
    """The first of these. Raises InputError where there is none."""
    runtime = next(iter(runtimes_for(artifact, target)), "")
    if not runtime:
        what = f"{target.name} has no runtime for {artifact.kind}"
        raise InputError(what, next=f"its runtimes: {', '.join(target.runtimes)}")
    return runtime


def execute(
    artifact: Artifact,
    target: Target,
    data: SampleSet,
    plan: Plan,
    *,
    runtime: str = "",
    outputs: bool = True,
    latency: bool = True,
) -> Run:
    """Run one artifact: the outputs for every sample of `data`, and raw times over its first ones.

    Raises InputError (the model or the samples do not fit), Missing (a package), DeviceError.
    """
    runtime = runtime or runtime_for(artifact, target)
    pairs = [(artifact, runtime)]
    return next(iter(execute_all(pairs, target, data, plan, outputs=outputs, latency=latency)))


def execute_all(
    pairs: Sequence[tuple[Artifact, str]],
    target: Target,
    data: SampleSet,
    plan: Plan,
    *,
    outputs: bool = True,
    latency: bool = True,
    progress: Progress | None = None,
) -> list[Run]:
    """Run several (artifact, runtime) pairs on one target, their timing processes interleaved round by round.

    So that slow drifts of the machine (clock, heat, neighbours) meet every artifact alike.
    """
    if not len(data):
        raise InputError(f"the set {data.name} is empty", next="give at least one sample")
    with DeviceSession(target, take(data, plan.samples), plan) as session:
        parts = [RunAccumulator() for _ in pairs]
        everyone = range(len(pairs))
        rounds: list[tuple[int, int | None]] = []
        if outputs:
            rounds += [(index, chunk) for chunk in range(len(session.chunks)) for index in everyone]
        if latency:
            times = plan.processes if session.timed else 1  # instructions are counted once
            rounds += [(index, None) for _ in range(times) for index in everyone]
        for index, chunk in progress(rounds, f"measuring on {target.name}", len(rounds)) if progress else rounds:
            artifact, runtime = pairs[index]
            if chunk is None:
                session.time(artifact, runtime, parts[index])
            else:
                session.outputs(artifact, runtime, parts[index], chunk, last=index == len(pairs) - 1)
        return [
            Run(
                artifact.name,
                target.name,
                runtime,
                session.device.provenance,
                session.joined(part.outputs),
                tuple(part.processes),
                {**session.device.facts(), **part.facts},
                (part.disturbed,) if part.disturbed else (),
            )
            for (artifact, runtime), part in zip(pairs, parts, strict=True)
        ]


def sustain(artifact: Artifact, runtime: str, target: Target, data: SampleSet, plan: Plan) -> Mapping[str, Any]:
    """One inference after another for `plan.sustained` seconds, in one process: what a long load does to the device.

    A list for each quantity, one entry per window of time: `seconds` since the start, `p50_ms`, `p90_ms`,
    `inferences`, `temperature_c`, `frequency_mhz`, `throttled` and `power_w`, None where the device does not tell;
    `energy_mj` per inference with its `energy_source`, the idle board's share included.
    """
    longer = dataclasses.replace(plan, timeout=plan.timeout + plan.sustained)
    with DeviceSession(target, take(data, SUSTAINED_SAMPLES), longer) as session:
        return session.sustain(artifact, runtime)


@contextmanager
def profile(
    artifact: Artifact, runtime: str, target: Target, data: SampleSet, plan: Plan
) -> Iterator[Mapping[str, Any]]:
    """The runner's result with a `profile`: `runs`, and `rows` of operators as the runtime's class describes them; None
    from a runtime that does not tell. What the runtime left beside it is in `folder` until the block ends."""
    with DeviceSession(target, data, plan) as session, session.profile(artifact, runtime) as result:
        yield result


@dataclass
class RunAccumulator:
    """What has come back so far for one pair."""

    outputs: list[Mapping[str, NDArray[Any]]] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    energy: list[float] = field(default_factory=list)
    disturbed: str = ""

    def count(self, result: Mapping[str, Any]) -> None:
        """A process on an emulated board, whose clock counts instructions: none of its times is kept as one."""
        self.facts.update(result["facts"], batch=result["batch"], instructions=int(np.median(result["times_ns"])))
        self.processes.append(
            Process((), 0.0, 0.0, result["warmups"], result["peak_rss_bytes"], result["floor_rss_bytes"])
        )


class DeviceSession:
    """One target, one set: writes the inputs once, then runs jobs."""

    def __init__(self, target: Target, data: SampleSet, plan: Plan) -> None:
        self.device = targets.device(target)
        self.plan, self.data = plan, data
        self.timed = self.device.provenance != "emulated"

    def __enter__(self) -> DeviceSession:
        with os_errors("write", tempfile.gettempdir()):
            self._folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
            self._cleanup = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            rows = self._rows()
            self.chunks = [range(first, min(first + rows, len(self.data))) for first in range(0, len(self.data), rows)]
            self._inputs = self._files(self.chunks[0])
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup()

    def _rows(self) -> int:
        """How many samples go at a time: all, or as many as are a small part of the memory of a device elsewhere.

        It maps its files, but where its disk is memory (a live system, a container) they would fill that.
        """
        room = int(self.device.facts().get("memory_bytes") or 0) // CHUNK_SHARE
        whole = sum(array.nbytes for array in self.data.inputs.values())
        if not room or whole <= room or self.device.discard_inputs is None:
            return len(self.data)
        return max(1, room * len(self.data) // whole // OUTPUT_BATCH) * OUTPUT_BATCH

    def _files(self, rows: range) -> dict[str, Path]:
        found = {}
        for index, (name, array) in enumerate(self.data.inputs.items()):
            part = array if len(rows) == len(array) else array[rows.start : rows.stop]
            place = self._folder / f"input{index}-{rows.start}.npy"
            found[name] = _spooled(part) or (place if place.is_file() else _written(part, place))
        return found

    def outputs(self, artifact: Artifact, runtime: str, parts: RunAccumulator, chunk: int, last: bool) -> None:
        """The outputs for one chunk of the samples; after the `last` artifact the device may forget it."""
        with os_errors("write", self._folder):
            inputs = self._files(self.chunks[chunk])
        job = Job(artifact, runtime, inputs, self.plan, outputs=True, latency=False)
        with self._run(job) as result:
            parts.outputs.append({name: _read(Path(path)) for name, path in result["outputs"].items()})
            parts.facts.update(result["facts"])
        if last and chunk and self.device.discard_inputs is not None:  # the first is what the latency is measured over
            self.device.discard_inputs(inputs.values())
            for path in inputs.values():
                path.unlink()

    def joined(self, chunks: Sequence[Mapping[str, NDArray[Any]]]) -> Mapping[str, NDArray[Any]]:
        """The outputs of all chunks, one after the other. Raises DeviceError where their shapes differ."""
        if len(chunks) < 2:
            return chunks[0] if chunks else {}
        try:
            return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        except (KeyError, ValueError) as error:
            raise DeviceError("the outputs change their shape between samples", str(error), "bench fewer") from error

    def sustain(self, artifact: Artifact, runtime: str) -> Mapping[str, Any]:
        job = Job(artifact, runtime, self._inputs, self.plan, outputs=False, latency=False, sustained=True)
        with self._run(job) as result:
            found: Mapping[str, Any] = result.get("sustained") or {}
            return found

    @contextmanager
    def profile(self, artifact: Artifact, runtime: str) -> Iterator[Mapping[str, Any]]:
        job = Job(artifact, runtime, self._inputs, self.plan, outputs=False, latency=False, profile=True)
        with self._run(job) as result:
            yield result

    def time(self, artifact: Artifact, runtime: str, parts: RunAccumulator) -> None:
        """One timing process; run again, up to RETRIES times, where something else used its core."""
        job = Job(artifact, runtime, self._inputs, self.plan, outputs=False, latency=True)
        for attempt in range(RETRIES + 1):
            with self._run(job) as result:
                if not self.timed:
                    parts.count(result)
                    return
                disturbed = _disturbance(result, self.plan)
                if disturbed and attempt < RETRIES:
                    continue
                parts.disturbed = parts.disturbed or disturbed
                load = max(parts.facts.get("load_average", 0.0), result["watch"]["load_average"])
                parts.facts.update(result["facts"], load_average=load, batch=result["batch"])
                if result.get("energy_mj") is not None:
                    parts.energy.append(result["energy_mj"])
                    parts.facts.update(energy_mj=float(np.median(parts.energy)), energy_source=result["energy_source"])
                parts.processes.append(
                    Process(
                        tuple(result["times_ns"]),
                        result["load_ms"],
                        result["first_ms"],
                        result["warmups"],
                        result["peak_rss_bytes"],
                        result["floor_rss_bytes"],
                    )
                )
                return

    @contextmanager
    def _run(self, job: Job) -> Iterator[Mapping[str, Any]]:
        """The runner's result; its files are there, in its `folder`, until the block ends."""
        out = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            with os_errors("write", out):
                result = self.device.run(job, out)
            _raise(result["error"], job)
            yield {**result, "folder": out}
        finally:
            shutil.rmtree(out, ignore_errors=True)


def _spooled(array: NDArray[Any]) -> Path | None:
    """The `.npy` file that this array is all of, where it lies in one already."""
    if not isinstance(array, np.memmap) or not array.filename or not str(array.filename).endswith(".npy"):
        return None
    try:
        file = np.load(array.filename, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    same = (file.shape, file.dtype, file.strides) == (array.shape, array.dtype, array.strides)
    return Path(array.filename).resolve() if same and file.offset == array.offset else None


def _written(array: NDArray[Any], path: Path) -> Path:
    """The array as a `.npy` file, written a part at a time: a memory-mapped one is never whole in memory."""
    header = {**np.lib.format.header_data_from_array_1_0(array), "fortran_order": False}
    rows = max(1, PART_BYTES * len(array) // max(1, array.nbytes))
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for first in range(0, len(array), rows):
            file.write(array[first : first + rows].tobytes())
            release_pages(array)
    return path


def _read(path: Path) -> NDArray[Any]:
    """An output; a large one stays in its file, which goes when nothing looks into it any more."""
    array: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > LARGE_BYTES else None)
    return array


def _disturbance(result: Mapping[str, Any], plan: Plan) -> str:
    """Why a timing process cannot be believed, or ""."""
    watch = result["watch"]
    if watch["throttled"] > 0:
        return "the CPU was slowed down for heat"
    if watch["steal_share"] > MAX_STEAL_SHARE:
        return f"the hypervisor took {watch['steal_share']:.0%} of the machine's time"
    if plan.threads == 1 and watch["cpu_share"] < MIN_CPU_SHARE:
        return f"shared its core: only {watch['cpu_share']:.0%} of the time was its own"
    return "" if result["steady"] else "its times did not become steady while it warmed up"


def _raise(error: Mapping[str, str] | None, job: Job) -> None:
    """The runner's refusal as edgekit's error."""
    if error is None:
        return
    kind, what = error["kind"], error["what"]
    runtime = registry.runtime(job.runtime)
    where = f"{job.artifact.name} in {job.runtime}"
    if kind == "missing":
        brings = registry.distribution("runtimes", job.runtime)
        raise Missing.install(f"the {job.runtime} runtime", runtime.package, runtime.extra, brings)
    if kind == "memory":
        raise DeviceError(f"cannot run {where}", "out of memory", "use a smaller model or batch")
    if kind == "model":
        raise InputError(f"cannot load {where}", what, f"is {job.artifact.path} a whole model of a version it knows?")
    raise InputError(f"cannot run {where}", what, "check the samples against `edgekit inspect`")
