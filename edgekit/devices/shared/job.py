"""The JSON of a `Job` for the runner, and the runner's result."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core import registry
from edgekit.core.device import Job
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.json import read
from edgekit.ondevice.runner import SCHEMA

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
        "outputs": {"folder": str(out), "batch": OUTPUT_BATCH} if job.outputs else None,
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


def result_of(out: Path, name: str) -> dict[str, Any]:
    """The result that the runner on `name` wrote to `out`, with the local paths of its outputs.

    Raises DeviceError if it is invalid: truncated, not JSON, of another version, or with an output that is no array.
    """
    try:
        result: dict[str, Any] = json.loads((out / "result.json").read_bytes())
        if result["schema"] != SCHEMA:
            raise ValueError(f"its schema is {result['schema']!r}, not {SCHEMA}")
        if result["error"] is None:
            result["outputs"] = {key: str(out / Path(path).name) for key, path in result["outputs"].items()}
            for path in result["outputs"].values():
                np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(result["facts"], dict) or not isinstance(result.get("watch", {"throttled": 0}), dict):
                raise TypeError("its facts are not an object")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        what = f"{name} sent an invalid result"
        raise DeviceError(what, why, "run it again; is its storage failing?") from error
    return result
