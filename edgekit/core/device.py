"""The job a device receives, and the interface it must and may implement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.target import Plan, Provenance, Target


@dataclass(frozen=True)
class Job:
    """The description of one runner process: the runtime, the model files, the inputs, and what to measure.

    `inputs` are arrays whose first axis is the sample. `outputs`: return the outputs of every sample. `latency`:
    measure the latency of batches of `plan.batch`. `sustained`: measure it under continuous load over
    `plan.sustained` seconds. `profile`: measure each operator's time. Of a model with states the outputs are, with
    `new_tokens`, that many tokens that follow each sample; with `stepwise`, those of a call with so many positions and
    of one call for each further one.
    """

    artifact: Artifact
    runtime: str
    inputs: Mapping[str, Path]
    plan: Plan
    outputs: bool
    latency: bool
    sustained: bool = False
    profile: bool = False
    new_tokens: int = 0
    stepwise: int = 0


class Device:
    """How a target is reached: it runs a job and returns the runner's result; outputs are written to a folder.

    `provenance` says what its numbers are; on an "emulated" one instructions are counted in place of time. `here`: it
    computes on this machine, which is measured alone. `timed`: its times are worth comparing.

    Optional methods are None if they are not supported: `discard_inputs(paths)` deletes files that are not needed again
    there (large sets are then sent in parts), `clean()` removes everything that edgekit keeps there and returns `bytes`
    and `root`, and `releases(folder)` returns what `edgekit deploy` works with (`devices/shared/releases.py`).
    """

    provenance: ClassVar[Provenance]
    here: ClassVar[bool] = False
    timed: ClassVar[bool] = True
    discard_inputs: Callable[..., None] | None = None
    clean: Callable[[], dict[str, Any]] | None = None
    releases: Callable[[str], Any] | None = None

    def __init__(self, target: Target) -> None:
        self.target = target

    @property
    def sent_bytes(self) -> int:
        """How much was sent to it by this process."""
        return 0

    def facts(self) -> Mapping[str, Any]:
        """What identifies this machine: cpu, isa, cores, …; part of a measurement's identity."""
        raise NotImplementedError

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        """Run one job in a fresh process; outputs are written to `out`. Raises DeviceError or InputError."""
        raise NotImplementedError

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        """Why it cannot run the artifact, a sentence each; nothing is sent."""
        yield from ()

    @classmethod
    def stop_all(cls) -> None:
        """End every connection to such devices, and with it what runs on them: the command was interrupted."""
