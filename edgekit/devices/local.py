"""This machine: one fresh process per job; files are used in place."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core import children
from edgekit.core.device import Device, Job
from edgekit.core.errors import DeviceError, is_disk_full, no_space, os_errors
from edgekit.core.paths import PACKAGE
from edgekit.core.signals import SIGNALS
from edgekit.core.target import Provenance
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared import releases
from edgekit.devices.shared.facts import INSTRUCTION_SETS
from edgekit.devices.shared.job import RUNNER, job_json, signal_name
from edgekit.devices.shared.releases import PythonReleases, Releases

#: when a signal ends a job's process, how long to wait for the same signal to end this one
SIGNAL_SECONDS = 0.2


class Local(Device):
    provenance: ClassVar[Provenance] = "measured"
    here: ClassVar[bool] = True

    def facts(self) -> Mapping[str, Any]:
        return _facts()

    def releases(self, folder: str) -> Releases:
        return PythonReleases(self, self.target.name, folder)

    def script(
        self, source: Path, request: Mapping[str, Any], files: Mapping[str, Path], runtime: str, timeout: float
    ) -> Mapping[str, Any]:
        """Run one of edgekit's own scripts in its own process, on copies of the files."""
        with temporary_folder() as folder:
            with os_errors("write", folder):
                for name, path in files.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, folder / name)
                (folder / "job.json").write_text(json.dumps(request))
            what = f"deploying to {self.target.name}"
            command = [sys.executable, "-P", str(source), "job.json", "result.json"]
            try:
                done = children.run(command, cwd=folder, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise DeviceError(f"{what} took too long", f"no result after {timeout:g} s") from error
            if not (folder / "result.json").is_file():
                raise DeviceError(f"{what} failed", _why(done.returncode, done.stderr), "run it again")
            return releases.read_result(folder / "result.json", self.target.name)

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        job_file, result_file = out / "job.json", out / "result.json"
        job_file.write_text(json.dumps(job_json(job, out)))
        threads = str(job.plan.threads)
        # -P: the runner's folder must not shadow packages; a fixed hash seed: the same dictionary order every time.
        command = [sys.executable, "-P", str(RUNNER), str(job_file), str(result_file)]
        path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": "0", "PYTHONPATH": path}
        what = f"running {job.artifact.name} in {job.runtime} on {self.target.name}"
        try:
            done = children.run(command, env=environment, timeout=job.plan.timeout)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"{what} took too long",
                f"no result after {job.plan.timeout:g} s; it was stopped",
                "use --quick, or allow more time in a recipe: edgekit run RECIPE --set plan.timeout=SECONDS",
            ) from error
        if -done.returncode in SIGNALS:  # sent to both, and this process handles its own next
            time.sleep(SIGNAL_SECONDS)
        if done.returncode == -signal.SIGINT:
            raise KeyboardInterrupt
        if not result_file.is_file() and is_disk_full(why := _why(done.returncode, done.stderr)):
            raise no_space(f"{what} failed: cannot write {out}", why)
        if not result_file.is_file():
            raise DeviceError(f"{what} failed", _why(done.returncode, done.stderr), "see log.txt in the run folder")
        result: Mapping[str, Any] = json.loads(result_file.read_text())
        return result


def _why(code: int, stderr: bytes) -> str:
    if code == -signal.SIGKILL:
        return "the process was killed, probably because memory ran out"
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    ended = f"the process was killed by {signal_name(-code)}" if code < 0 else f"it ended with exit code {code}"
    return f"{ended}: {lines[-1]}" if lines else ended


@cache
def _facts() -> Mapping[str, Any]:
    cpu, flags = platform.processor() or platform.machine(), ""
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
        if key.strip() in ("flags", "Features"):
            flags = value
            break
    memory = next((int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    governor = "".join(_lines("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip()
    return {
        "cpu": cpu,
        "arch": platform.machine(),
        "isa": [flag for flag in flags.split() if flag in INSTRUCTION_SETS],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": memory,
        "governor": governor or "unknown",
        "os": f"{platform.system()} {platform.release()}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []
