"""Running artifacts on targets: all outputs and times come from this module.

The same benchmark code measures this host, a board or a phone, in separate processes. It never gets the labels.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit import networks
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.device import Job
from edgekit.core.errors import DeviceError, InputError, Missing, Unusable, os_errors
from edgekit.core.measurement import Process, Run
from edgekit.core.progress import Progress, duration
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.temporary import TemporaryFolder
from edgekit.devices.shared.job import OUTPUT_BATCH
from edgekit.measure import targets
from edgekit.measure.time_limit import TimeLimit
from edgekit.ondevice.runner import release_pages
from edgekit.sets import take
from edgekit.sets.edges import laid_out

#: retries of a disturbed timing process before its run is marked as invalid, if its CPU time says nothing
RETRIES = 3
#: disturbed processes of a run that are repeated before the CPU times of the session are taken instead
MOST_REPEATED = 3
#: a single-threaded timed loop with a lower share of CPU time was preempted (CPU contention)
MIN_CPU_SHARE = 0.95
#: highest valid share of the machine's time taken by the hypervisor (steal time)
MAX_STEAL_SHARE = 0.05
#: bytes of a set that are written at a time
PART_BYTES = 1 << 23
#: a chunk of samples takes at most 1/CHUNK_SHARE of a device's memory
CHUNK_SHARE = 8
#: samples that a sustained run cycles through
SUSTAINED_SAMPLES = 16
#: larger outputs are memory-mapped
LARGE_BYTES = 1 << 27


def runtimes_for(artifact: Artifact, target: Target) -> tuple[str, ...]:
    """The target's runtimes that execute this artifact's format."""
    return tuple(name for name in target.runtimes if registry.runtime(name).takes(artifact.kind.format))


def runtime_for(artifact: Artifact, target: Target) -> str:
    """The first runtime of the target that executes this artifact. Raises InputError if there is none."""
    runtime = next(iter(runtimes_for(artifact, target)), "")
    if not runtime:
        what = f"{target.name} has no runtime for {artifact.kind}"
        raise InputError(what, f"its runtimes are {', '.join(target.runtimes) or 'none'}", "choose another artifact")
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
    """Run one artifact: the outputs for every sample of `data`, and raw times over the first ones.

    Raises InputError (the model or the samples do not fit), Missing (a package), DeviceError.
    """
    runtime = runtime or runtime_for(artifact, target)
    pairs = [(artifact, runtime)]
    return next(iter(execute_all(pairs, target, data, plan, outputs=outputs, latency=latency)))


def execute_steps(
    artifact: Artifact, target: Target, data: SampleSet, *, new_tokens: int = 0, stepwise: int = 0, runtime: str = ""
) -> Mapping[str, NDArray[Any]]:
    """Of a model with states, by name, what a `Job` with `new_tokens` or `stepwise` gives. Raises as `execute`."""
    runtime = runtime or runtime_for(artifact, target)
    with DeviceSession(target, data, Plan()) as session:
        return session.steps(artifact, runtime, new_tokens, stepwise)


def execute_all(
    pairs: Sequence[tuple[Artifact, str]],
    target: Target,
    data: SampleSet,
    plan: Plan,
    *,
    outputs: bool = True,
    latency: bool = True,
    progress: Progress | None = None,
    announce: Callable[[TimeLimit], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Run]:
    """Run several (artifact, runtime) pairs on one target, their timing processes interleaved in rounds.

    Interleaving spreads slow drifts of the machine (clock, temperature, other load) evenly over the artifacts. The
    first round tells how long the others take: `announce` gets the time limit then, at which the timing ends. All
    pairs have as many processes as the one with the fewest. Outputs are always computed.
    """
    if not len(data):
        raise InputError(f"the set {data.name} is empty", next="give at least one sample")
    if len({tuple(spec.shape[1:] for spec in artifact.inputs) for artifact, _ in pairs}) == 1:
        data = laid_out(take(data, plan.samples), pairs[0][0].inputs)
    with DeviceSession(target, take(data, plan.samples), plan) as session:
        accumulators = [RunAccumulator() for _ in pairs]
        times = (plan.processes if session.timed else 1) if latency else 0  # instructions are counted once
        limit = TimeLimit(len(pairs), times, clock)
        if latency:
            for index, pair in enumerate(pairs):
                session.time(index, *pair, accumulators[index], limit, first=True)
            if session.timed:
                limit.start(sum(a.outputs_seconds for a in accumulators) if outputs else 0.0)
            if announce:
                announce(limit)
        rounds = list(_rounds(limit, len(session.chunks) if outputs else 0))
        for index, chunk in progress(rounds, f"measuring on {target.name}", len(rounds)) if progress else rounds:
            if chunk is not None:
                session.outputs(*pairs[index], accumulators[index], chunk, last=index == len(pairs) - 1)
            elif limit.allows(index):
                session.time(index, *pairs[index], accumulators[index], limit)
            else:
                break
        complete = min((len(accumulator.processes) for accumulator in accumulators), default=0)
        cut = f"{complete} of {times} processes in {duration(limit.limit)}" if limit.reached else ""
        # by one clock, so that all can be compared
        contention = next((accumulator.contended for accumulator in accumulators if accumulator.contended), "")
        if not all(process.cpu_ns for accumulator in accumulators for process in accumulator.processes):
            for accumulator in accumulators:
                accumulator.disturbed = accumulator.disturbed or accumulator.contended
            contention = ""
        return [
            Run(
                artifact.name,
                target.name,
                runtime,
                session.device.provenance,
                session.joined(accumulator.outputs),
                tuple(accumulator.processes[:complete]),
                {**session.device.facts(), **accumulator.facts},
                (accumulator.disturbed,) if accumulator.disturbed else (),
                accumulator.output_batch,
                "cpu" if contention else "wall",
                contention,
                cut,
            )
            for (artifact, runtime), accumulator in zip(pairs, accumulators, strict=True)
        ]


def _rounds(limit: TimeLimit, chunks: int) -> Iterator[tuple[int, int | None]]:
    """What is to run after the first round: (pair, chunk of samples to compute the outputs of; None: to be timed)."""
    pairs = range(len(limit.to_come))
    yield from ((pair, None) for pair in pairs if limit.to_come[pair] == limit.processes > 0)  # it was disturbed
    yield from ((pair, chunk) for chunk in range(chunks) for pair in pairs)
    yield from ((pair, None) for _ in range(limit.processes - 1) for pair in pairs)


def sustain(artifact: Artifact, runtime: str, target: Target, data: SampleSet, plan: Plan) -> Mapping[str, Any]:
    """Run inferences back to back for `plan.sustained` seconds in one process: the effect of a sustained load.

    Returns a list for each quantity, one entry per time window: `seconds` since the start, `p50_ms`, `p90_ms`,
    `inferences`, `temperature_c`, `frequency_mhz`, `throttled` and `power_w`, None if the device does not report it;
    `energy_mj` per inference with its `energy_source`, including the idle power of the board.
    """
    longer = dataclasses.replace(plan, timeout=plan.timeout + plan.sustained)
    with DeviceSession(target, take(data, SUSTAINED_SAMPLES), longer) as session:
        return session.sustain(artifact, runtime)


@contextmanager
def profile(
    artifact: Artifact, runtime: str, target: Target, data: SampleSet, plan: Plan
) -> Iterator[Mapping[str, Any]]:
    """The runner's result with a `profile`: `runs`, and `rows` of operators as the runtime's class describes them; None
    from a runtime without a profiler. The runtime's files are in `folder` until the block ends."""
    with DeviceSession(target, data, plan) as session, session.profile(artifact, runtime) as result:
        yield result


@dataclass
class RunAccumulator:
    """The results so far of one (artifact, runtime) pair."""

    outputs: list[Mapping[str, NDArray[Any]]] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    output_batch: int = 0
    energy: list[float] = field(default_factory=list)
    disturbed: str = ""
    #: what other programs did to the wall time of a process whose CPU time is valid
    contended: str = ""
    repeated: int = 0
    #: the estimated time of computing all outputs
    outputs_seconds: float = 0.0

    def add_times(self, result: Mapping[str, Any]) -> None:
        """Add a timing process on a machine with a clock."""
        load = max(self.facts.get("load_average", 0.0), result["watch"]["load_average"])
        self.facts.update(result["facts"], load_average=load, batch=result["batch"])
        if result.get("energy_mj") is not None:
            self.energy.append(result["energy_mj"])
            self.facts.update(energy_mj=float(np.median(self.energy)), energy_source=result["energy_source"])
        self.processes.append(
            Process(
                tuple(result["times_ns"]),
                result["load_ms"],
                result["first_ms"],
                result["warmups"],
                result["peak_rss_bytes"],
                result["floor_rss_bytes"],
                tuple(result.get("cpu_ns") or ()),
                tuple(result.get("first_token_ns") or ()),
            )
        )

    def add_instructions(self, result: Mapping[str, Any]) -> None:
        """Add a process on an emulated board, whose clock counts instructions: the Process gets no times."""
        self.facts.update(result["facts"], batch=result["batch"], instructions=int(np.median(result["times_ns"])))
        self.processes.append(
            Process((), 0.0, 0.0, result["warmups"], result["peak_rss_bytes"], result["floor_rss_bytes"])
        )


class DeviceSession:
    """One target with one set: writes the inputs once, then runs jobs."""

    def __init__(self, target: Target, data: SampleSet, plan: Plan) -> None:
        self.device = targets.device(target)
        self.plan, self.data = plan, data
        self.timed = self.device.provenance != "emulated"
        #: why the latencies of the session are CPU times
        self.contended = ""

    def __enter__(self) -> DeviceSession:
        self._temporary = TemporaryFolder()
        self._folder = self._temporary.path
        with os_errors("write", self._folder):
            try:
                rows = self._chunk_rows()
                starts = range(0, len(self.data), rows)
                self.chunks = [range(first, min(first + rows, len(self.data))) for first in starts]
                self._inputs = self._input_files(self.chunks[0])
            except BaseException:
                self._temporary.remove()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.remove()

    def _chunk_rows(self) -> int:
        """The number of samples to send at a time: all, or as many as fit a small part of a remote device's memory.

        The device memory-maps its files, but they fill its memory if its disk is memory (a live system, a container).
        """
        room = int(self.device.facts().get("memory_bytes") or 0) // CHUNK_SHARE
        whole = sum(array.nbytes for array in self.data.inputs.values())
        if not room or whole <= room or self.device.discard_inputs is None:
            return len(self.data)
        return max(1, room * len(self.data) // whole // OUTPUT_BATCH) * OUTPUT_BATCH

    def _input_files(self, rows: range) -> dict[str, Path]:
        files = {}
        for index, (name, array) in enumerate(self.data.inputs.items()):
            chunk = array if len(rows) == len(array) else array[rows.start : rows.stop]
            path = self._folder / f"input{index}-{rows.start}.npy"
            files[name] = _npy_file(chunk) or (path if path.is_file() else _write_npy(chunk, path))
        return files

    def outputs(self, artifact: Artifact, runtime: str, results: RunAccumulator, chunk: int, last: bool) -> None:
        """Compute the outputs of one chunk of samples; after the `last` artifact the device may delete the chunk."""
        with os_errors("write", self._folder):
            inputs = self._input_files(self.chunks[chunk])
        job = Job(artifact, runtime, inputs, self.plan, outputs=True, latency=False)
        with self._run(job) as result:
            results.outputs.append({name: _read(Path(path)) for name, path in result["outputs"].items()})
            results.output_batch = int(result.get("output_batch") or 0)
            results.facts.update(result["facts"])
        if last and chunk and self.device.discard_inputs is not None:  # latency is measured over the first chunk
            self.device.discard_inputs(inputs.values())
            for path in inputs.values():
                path.unlink()

    def steps(self, artifact: Artifact, runtime: str, new_tokens: int, stepwise: int) -> Mapping[str, NDArray[Any]]:
        job = Job(artifact, runtime, self._inputs, self.plan, True, False, new_tokens=new_tokens, stepwise=stepwise)
        with self._run(job) as result:
            return {name: _read(Path(path)) for name, path in result["outputs"].items()}

    def joined(self, chunks: Sequence[Mapping[str, NDArray[Any]]]) -> Mapping[str, NDArray[Any]]:
        """The concatenated outputs of all chunks. Raises DeviceError if their shapes differ."""
        if len(chunks) < 2:
            return chunks[0] if chunks else {}
        try:
            return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        except (KeyError, ValueError) as error:
            what, next = "the outputs change their shape between samples", "measure fewer samples: --samples N"
            raise DeviceError(what, str(error), next) from error

    def sustain(self, artifact: Artifact, runtime: str) -> Mapping[str, Any]:
        job = Job(artifact, runtime, self._inputs, self.plan, outputs=False, latency=False, sustained=True)
        with self._run(job) as result:
            windows: Mapping[str, Any] = result.get("sustained") or {}
            return windows

    @contextmanager
    def profile(self, artifact: Artifact, runtime: str) -> Iterator[Mapping[str, Any]]:
        job = Job(artifact, runtime, self._inputs, self.plan, outputs=False, latency=False, profile=True)
        with self._run(job) as result:
            yield result

    def time(
        self,
        pair: int,
        artifact: Artifact,
        runtime: str,
        results: RunAccumulator,
        limit: TimeLimit,
        first: bool = False,
    ) -> None:
        """Run one timing process, and again if it was disturbed; the `first` is not repeated, nor kept, if it was.

        On a busy machine that would be without end, so after MOST_REPEATED of a run the CPU times of the session are
        taken, and nothing is repeated for which the time limit has no time.
        """
        job = Job(artifact, runtime, self._inputs, self.plan, outputs=False, latency=True)
        for attempt in range(RETRIES + 1):
            started = limit.clock()
            with self._run(job) as result:
                limit.took[pair] = limit.clock() - started
            if not self.timed:
                results.add_instructions(result)
                break
            if first:
                inference = float(np.median(result["times_ns"])) / 1e9 / result["batch"]
                results.outputs_seconds = len(self.chunks) * limit.took[pair] + len(self.data) * inference
            disturbed = _disturbance(result, self.plan)
            contended = disturbed if disturbed and _cpu_time_counts(result, self.plan) else ""
            again = not self.contended and results.repeated < MOST_REPEATED if contended else attempt < RETRIES
            if disturbed and (first or (again and limit.allows_repeat())):
                results.repeated += 1
                if first:
                    return
                continue
            self.contended = self.contended or contended
            results.contended = results.contended or contended
            results.disturbed = results.disturbed or ("" if contended else disturbed)
            results.add_times(result)
            break
        limit.to_come[pair] -= 1

    @contextmanager
    def _run(self, job: Job) -> Iterator[Mapping[str, Any]]:
        """Run a job and yield the runner's result; its files stay in `folder` until the block ends."""
        out = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            with os_errors("write", out):
                result = self.device.run(job, out)
            _raise(result["error"], job)
            yield {**result, "folder": out}
        finally:
            shutil.rmtree(out, ignore_errors=True)


def _npy_file(array: NDArray[Any]) -> Path | None:
    """The `.npy` file that this memory-mapped array is the whole of, if any."""
    if not isinstance(array, np.memmap) or not array.filename or not str(array.filename).endswith(".npy"):
        return None
    try:
        file = np.load(array.filename, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    same = (file.shape, file.dtype, file.strides) == (array.shape, array.dtype, array.strides)
    return Path(array.filename).resolve() if same and file.offset == array.offset else None


def _write_npy(array: NDArray[Any], path: Path) -> Path:
    """Write the array as a `.npy` file in parts, so that a memory-mapped one is never wholly in memory."""
    header = {**np.lib.format.header_data_from_array_1_0(array), "fortran_order": False}
    rows = max(1, PART_BYTES * len(array) // max(1, array.nbytes))
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for first in range(0, len(array), rows):
            file.write(array[first : first + rows].tobytes())
            release_pages(array)
    return path


def _read(path: Path) -> NDArray[Any]:
    """Read an output; a large one is memory-mapped, and its file is freed with the last reference to it."""
    mode: Literal["r"] | None = "r" if path.stat().st_size > LARGE_BYTES else None
    array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    return array


def _disturbance(result: Mapping[str, Any], plan: Plan) -> str:
    """Why the times of a process are not valid, or ""."""
    watch = result["watch"]
    if watch["throttled"] > 0:
        return "thermal throttling of the CPU"
    if watch["steal_share"] > MAX_STEAL_SHARE:
        return f"steal time: the hypervisor took {watch['steal_share']:.0%} of the machine's time"
    if plan.threads == 1 and watch["cpu_share"] < MIN_CPU_SHARE:
        return f"CPU contention: preempted, with {watch['cpu_share']:.0%} of the core's time"
    return "" if result["steady"] else "the latency did not become stable during warm-up"


def _cpu_time_counts(result: Mapping[str, Any], plan: Plan) -> bool:
    """Is the CPU time of a disturbed process that of an undisturbed one, near enough to compare?

    Of one thread, on cores that did not slow down.
    """
    return plan.threads == 1 and bool(result.get("cpu_ns")) and result["watch"]["throttled"] == 0 and result["steady"]


def _raise(error: Mapping[str, str] | None, job: Job) -> None:
    """Raise the runner's error as edgekit's."""
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
        if runtime.needs_edgekit:
            networks.check_code(job.artifact.path)
        next = f"check that {job.artifact.path} is complete and of a version that {job.runtime} supports"
        raise Unusable(f"cannot load {where}", what, next)
    kind_of = Unusable if kind == "run" else InputError
    raise kind_of(f"cannot run {where}", what, "compare the samples with the inputs in `edgekit inspect`")
