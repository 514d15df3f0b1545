"""The JSON of a `Job` for the runner."""

from __future__ import annotations

import inspect
import signal
from pathlib import Path
from typing import Any

from edgekit.core import registry
from edgekit.core.device import Job
from edgekit.core.errors import InputError
from edgekit.core.json import read

RUNNER = Path(__file__).parents[2] / "ondevice" / "runner.py"
SENSORS = RUNNER.with_name("sensors.py")
#: the number of windows of a sustained run, and the shortest and longest window in seconds
WINDOWS, SHORTEST, LONGEST = 60, 0.5, 5.0

OUTPUT_BATCH = 64

#: drivers that run around a model, by the name in its `driver.json`: edgekit's own files, never the run folder's
DRIVERS = {"greedy": "Greedy"}
DRIVER = "driver.json"


def job_json(job: Job, out: Path) -> dict[str, Any]:
    """The job with this machine's paths; a remote device replaces them."""
    artifact, plan = job.artifact, job.plan
    runtime = registry.load("runtimes", job.runtime)
    window = min(max(plan.sustained / WINDOWS, SHORTEST), LONGEST)
    latency = {"batch": plan.batch, "seconds": plan.seconds, "warmup_seconds": plan.warmup_seconds}
    return {
        "runtime_file": inspect.getfile(runtime),
        "runtime_class": runtime.__name__,
        "model": str(artifact.path / registry.load("formats", artifact.kind.format).file),
        "specs": {
            "inputs": [spec.to_json() for spec in artifact.inputs],
            "outputs": [spec.to_json() for spec in artifact.outputs],
        },
        "driver": _driver(artifact.path / DRIVER) if DRIVER in artifact.files else None,
        "inputs": {name: str(path) for name, path in job.inputs.items()},
        "threads": plan.threads,
        "precision": plan.precision,
        "outputs": {"folder": str(out), "batch": OUTPUT_BATCH, "lists": artifact.lists} if job.outputs else None,
        "latency": {**latency, "min_runs": plan.min_runs} if job.latency else None,
        "sustained": {"batch": plan.batch, "seconds": plan.sustained, "window": window} if job.sustained else None,
        "profile": {"folder": str(out)} if job.profile else None,
        "sensors": str(SENSORS) if job.latency or job.sustained else None,
    }


def _driver(path: Path) -> dict[str, Any]:
    """The driver that runs around the model. Raises InputError if edgekit has no such driver."""
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
