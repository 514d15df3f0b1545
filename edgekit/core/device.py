"""What a device gets, and what it must and may offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.target import Plan, Provenance, Target


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


class Device:
    """How a target is reached: takes a job, gives back the runner's result and the folder of its outputs.

    `provenance` says what its numbers are; on an "emulated" one instructions are counted in place of time. `here`: it
    computes on this machine, which is measured alone. `timed`: its times are worth comparing.

    Optional methods are None where they are not supported: `forget(paths)` deletes files that are not needed again
    there (large sets are then sent in parts), `clean()` removes everything that edgekit keeps there and returns `bytes`
    and `root`, and `releases(folder)` returns what `edgekit deploy` works with (`devices/shared/releases.py`).
    """

    provenance: ClassVar[Provenance]
    here: ClassVar[bool] = False
    timed: ClassVar[bool] = True
    forget: Callable[..., None] | None = None
    clean: Callable[[], dict[str, Any]] | None = None
    releases: Callable[[str], Any] | None = None

    def __init__(self, target: Target) -> None:
        self.target = target

    @property
    def sent_bytes(self) -> int:
        """How much was sent to it by this process."""
        return 0

    def facts(self) -> Mapping[str, Any]:
        """What names this machine: cpu, isa, cores, …; part of a measurement's identity."""
        raise NotImplementedError

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        """Run one job in a fresh process; outputs are left under `out`. Raises DeviceError or InputError."""
        raise NotImplementedError

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        """Why it cannot run the artifact, a sentence each; nothing is sent."""
        yield from ()

    @classmethod
    def stop_all(cls) -> None:
        """End every connection to such devices, and with it what runs on them: the command was interrupted."""
