"""The job a device receives, and the interface it must implement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edgekit.core.artifact import Artifact
from edgekit.core.target import Plan, Provenance, Target


@dataclass(frozen=True)
class Job:
    """The description of one runner process: the runtime, the model files, the inputs, and what to measure.

    `inputs` are arrays whose first axis is the sample. `outputs`: return the outputs of every sample. `latency`:
    measure the latency of batches of `plan.batch`. `sustained`: measure it under continuous load over
    `plan.sustained` seconds. `profile`: measure each operator's time.
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
    """How a target is reached: it runs a job and returns the runner's result; outputs are written to a folder."""

    provenance: ClassVar[Provenance]

    def __init__(self, target: Target) -> None: ...

    def facts(self) -> Mapping[str, Any]:
        """What identifies this machine: cpu, isa, cores, …; part of a measurement's identity."""
        ...

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        """Run one job in a fresh process; outputs are written to `out`. Raises DeviceError or InputError."""
        ...
