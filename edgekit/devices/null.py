"""No transport: the runner's code is called in this process. To test a recipe without a device, and for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.device import Device, Job
from edgekit.core.target import Provenance
from edgekit.devices.shared.job import job_json
from edgekit.ondevice import runner


class Null(Device):
    provenance: ClassVar[Provenance] = "estimated"
    here: ClassVar[bool] = True
    timed: ClassVar[bool] = False

    def facts(self) -> Mapping[str, Any]:
        return {"cpu": "none", "arch": "null", "isa": [], "cores": 1, "memory_bytes": 0}

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        (out / "job.json").write_text(json.dumps(job_json(job, out)))
        runner.main(str(out / "job.json"), str(out / "result.json"))
        result: dict[str, Any] = json.loads((out / "result.json").read_text())
        return {**result, **NO_DISTURBANCE} if job.latency and not result["error"] else result


#: the disturbances of a machine that does not exist: none
NO_DISTURBANCE: Mapping[str, Any] = {
    "steady": True,
    "watch": {"cpu_share": 1.0, "steal_share": 0.0, "throttled": 0, "load_average": 0.0},
}
