"""What a device gets and must offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

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
