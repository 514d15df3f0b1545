"""The JSON of a `Job` for the runner."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.device import Job
from edgekit.core.errors import InputError
from edgekit.core.json import read

RUNNER = Path(__file__).parents[2] / "ondevice" / "runner.py"
SENSORS = RUNNER.with_name("sensors.py")
#: the number of windows of a sustained run, and the shortest and longest window in seconds
WINDOWS, SHORTEST, LONGEST = 60, 0.5, 5.0

OUTPUT_BATCH = 64

#: requests of a timing process, which take much longer than inferences
MIN_REQUESTS = 3

#: drivers that run around a model, by the name in its `driver.json`: edgekit's own files, never the run folder's
DRIVERS = {"greedy": "Greedy"}
DRIVER = "driver.json"


def job_json(job: Job, out: Path) -> dict[str, Any]:
    """The job with this machine's paths; a remote device replaces them."""
    artifact, plan = job.artifact, job.plan
    states = {state.input.name: state.output.name for state in artifact.states}
    runtime = registry.load("runtimes", job.runtime)
    window = min(max(plan.sustained / WINDOWS, SHORTEST), LONGEST)
    request = {"prompt": plan.prompt, "new_tokens": plan.new_tokens} if states else {}
    latency = {"batch": plan.batch, "seconds": plan.seconds, "warmup_seconds": plan.warmup_seconds, **request}
    return {
        "runtime_file": inspect.getfile(runtime),
        "runtime_class": runtime.__name__,
        "model": str(artifact.path / registry.load("formats", artifact.kind.format).file),
        "specs": {
            "inputs": [spec.to_json() for spec in artifact.file_inputs],
            "outputs": [spec.to_json() for spec in artifact.file_outputs],
            "states": states,
        },
        "driver": _driver(artifact, states),
        "inputs": {name: str(path) for name, path in job.inputs.items()},
        "threads": plan.threads,
        "precision": plan.precision,
        "outputs": _outputs(job, out) if job.outputs else None,
        "latency": {**latency, "min_runs": min_runs(job)} if job.latency else None,
        "sustained": {"batch": plan.batch, "seconds": plan.sustained, "window": window, **request}
        if job.sustained
        else None,
        "profile": {"folder": str(out)} if job.profile else None,
        "sensors": str(SENSORS) if job.latency or job.sustained else None,
    }


def min_runs(job: Job) -> int:
    """The number of times that a timing process measures, at least."""
    return min(job.plan.min_runs, MIN_REQUESTS) if job.artifact.states else job.plan.min_runs


def _outputs(job: Job, out: Path) -> dict[str, Any]:
    wanted = {"folder": str(out), "batch": OUTPUT_BATCH, "lists": job.artifact.lists}
    return {**wanted, "new_tokens": job.new_tokens, "stepwise": job.stepwise}


def _driver(artifact: Artifact, states: Mapping[str, str]) -> dict[str, Any] | None:
    """What runs around the model: that of its states or the one it came with. Raises InputError if there is no such."""
    if states:
        return {"file": str(RUNNER.with_name("state.py")), "class": "Stateful", "settings": {"states": states}}
    if DRIVER not in artifact.files:
        return None
    path = artifact.path / DRIVER
    settings = read(path, "create the artifact again")
    name = settings.pop("driver", "")
    if name not in DRIVERS:
        raise InputError(
            f"{path} names the driver {name!r}", f"known: {', '.join(DRIVERS)}", "create the artifact again"
        )
    return {"file": str(RUNNER.with_name(f"{name}.py")), "class": DRIVERS[name], "settings": settings}


def signal_name(number: int) -> str:
    """SIGKILL for 9; a number that this machine has no name for, as it is."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
