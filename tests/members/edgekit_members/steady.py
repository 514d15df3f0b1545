"""A device whose answers are real and whose times are not: they follow from the file's size, the runtime and threads.

So that two searches that try the same points measure the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.device import Job
from edgekit.core.target import Provenance
from edgekit.devices.local import Local
from edgekit.devices.null import NO_DISTURBANCE

#: nanoseconds per byte of the file
PER_BYTE = {"onnxruntime": 2.0, "litert": 1.5, "openvino": 3.0}


class Steady(Local):
    provenance: ClassVar[Provenance] = "estimated"
    here: ClassVar[bool] = False

    def facts(self) -> Mapping[str, Any]:
        return {"cpu": "steady", "arch": "x86_64", "isa": [], "cores": 2, "memory_bytes": 0}

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        if not job.latency:
            return super().run(job, out)
        total = sum(path.stat().st_size for path in job.artifact.path.glob("model.*"))
        nanoseconds = int(PER_BYTE.get(job.runtime, 4.0) * total / (1 + 0.3 * (job.plan.threads - 1)))
        return {
            "error": None,
            "facts": {},
            "outputs": {},
            "batch": job.plan.batch,
            "times_ns": [nanoseconds] * 10,
            "load_ms": 1.0,
            "first_ms": 1.0,
            "warmups": 1,
            "peak_rss_bytes": 2,
            "floor_rss_bytes": 1,
            **NO_DISTURBANCE,
        }
