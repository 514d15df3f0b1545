"""A board or a server over SSH: one connection, files sent once, each job in a fresh process of the device's Python."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.device import Device, Job
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import sha256
from edgekit.core.target import Address, Provenance, Target
from edgekit.devices.shared import environment as environments
from edgekit.devices.shared import releases, ssh
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.job import RUNNER, job_json, result_of
from edgekit.devices.shared.releases import PythonReleases, Releases
from edgekit.devices.shared.ssh import Session

#: seconds beyond a job's own time-out that its answer may take to come here
GRACE_SECONDS = 60.0
#: the Raspberry Pi firmware's flags for a clock that is held back now
SLOWED = 0b1110


class Ssh(Device):
    provenance: ClassVar[Provenance] = "measured"

    def __init__(self, target: Target, config: str = "") -> None:
        """`config` is a file of ssh's in place of the user's. Raises InputError where the target does not say where."""
        super().__init__(target)
        self.config = config
        if not target.address:
            next = f"edgekit targets add my-{target.name} --ssh user@host --like {target.name}"
            raise InputError(f"{target.name} is a kind of board, without an address", "edgekit ships none", next)
        self.address = Address.parse(target.address)

    @property
    def session(self) -> Session:
        return ssh.session(self.target.name, self.address, self.target.python, self.config)

    @property
    def machine(self) -> Facts:
        return self.session.facts

    @property
    def sent_bytes(self) -> int:
        return self.session.sent_bytes

    def facts(self) -> Mapping[str, Any]:
        """Beside the machine, the versions its own Python has: another one there is another measurement."""
        packages = ["numpy", *(name for runtime in self.target.runtimes for name in environments.packages(runtime))]
        session = self.session
        with session.busy:
            if session.versions is None:
                found = session.checked(session.call("versions", packages=packages))["versions"]
                session.versions = {name: version for name, version in found.items() if version}
        return {**session.facts.identity(), "packages": session.versions}

    def clean(self) -> dict[str, Any]:
        """Remove everything edgekit keeps there; says how many `bytes`, and where (`root`)."""
        session = self.session
        with session.busy:
            session.lock()
            found = session.checked(session.call("clean"))
            session.close()
        return {"bytes": int(found["bytes"]), "root": str(found["root"])}

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        """Why what there is of the runtime cannot run it; nothing is made or sent."""
        session = self.session
        with session.busy:
            found = environments.way(session, self.target, runtime)
            if found.how in ("own", "made"):
                try:
                    environments.refuse(session, artifact, self.target.name, runtime, found.key)
                except InputError as error:
                    yield error.why

    @classmethod
    def stop_all(cls) -> None:
        ssh.close_all()

    def forget(self, paths: Iterable[Path]) -> None:
        """Files that will not be needed again there."""
        session = self.session
        with session.busy:
            gone = [sha256(path) for path in paths]
            session.checked(session.call("forget", files=gone))
            session.present -= set(gone)

    def releases(self, folder: str) -> Releases:
        return PythonReleases(self, self.target.name, folder)

    def script(
        self, source: Path, request: Mapping[str, Any], files: Mapping[str, Path], runtime: str, timeout: float
    ) -> Mapping[str, Any]:
        """One of edgekit's own scripts, run there like a job."""
        session = self.session
        with session.busy, releases.scratch() as folder:
            session.lock()
            environment = environments.ready(session, self.target, runtime) if runtime else ""
            links = {name: sha256(path) for name, path in {"runner/runner.py": source, **files}.items()}
            session.send({links[name]: path for name, path in {"runner/runner.py": source, **files}.items()})
            answer = session.call(
                "run",
                out=Path(folder),
                links=links,
                job={**request, "environment": environment},
                environment=environment,
                threads=1,
                limit=timeout,
                timeout=timeout + GRACE_SECONDS,
            )
            self._check(session.checked(answer), f"deploying to {self.target.name}", timeout, Path(folder))
            return releases.read(Path(folder, "result.json"), self.target.name)

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        session = self.session
        with session.busy:
            session.lock()
            environment = environments.ready(session, self.target, job.runtime)
            environments.refuse(session, job.artifact, self.target.name, job.runtime, environment)
            files, described = _there(job, out)
            links = {name: sha256(path) for name, path in files.items()}
            session.send({links[name]: path for name, path in files.items()})
            answer = session.call(
                "run",
                out=out,
                links=links,
                job=described,
                environment=environment,
                threads=job.plan.threads,
                limit=job.plan.timeout,
                timeout=job.plan.timeout + GRACE_SECONDS,
            )
        what = f"running {job.artifact.name} in {job.runtime} on {self.target.name}"
        self._check(session.checked(answer), what, job.plan.timeout, out)
        result = result_of(out, self.target.name)
        if answer.get("temperature_c") is not None and not result["error"]:
            result["facts"]["temperature_c"] = answer["temperature_c"]
        if answer.get("throttled", 0) & SLOWED and "watch" in result:
            result["watch"]["throttled"] += 1
        if result["error"] and result["error"]["kind"] == "missing":
            what = f"{job.runtime} cannot be imported on {self.target.name}"
            next = f"edgekit targets clean {self.target.name}, then run it again"
            raise DeviceError(what, result["error"]["what"], next)
        return result

    def _check(self, answer: Mapping[str, Any], what: str, limit: float, out: Path) -> None:
        if answer["timed_out"]:
            raise DeviceError(
                f"{what} took too long",
                f"no result after {limit:g} s; it was stopped",
                "allow more time with --set plan.timeout=SECONDS",
            )
        if not (out / "result.json").is_file():
            raise DeviceError(f"{what} failed", self._why(answer), "see log.txt in the run folder")

    def _why(self, answer: Mapping[str, Any]) -> str:
        code, lines = int(answer["code"]), str(answer["said"]).strip().splitlines()
        memory = f"it has {self.session.facts.memory_bytes >> 20} MB"
        if code == -signal.SIGKILL:
            return f"the process was killed, most likely for want of memory: {memory}"
        if code == -signal.SIGBUS and answer["free"] < 1 << 24:
            return f"its disk is full: {answer['free'] >> 10} kB are free"
        if code < 0:
            return f"the process died of {signal.Signals(-code).name}" + (f": {lines[-1]}" if lines else "")
        if lines and "No space left on device" in lines[-1]:
            return f"its disk is full: {lines[-1]}"
        return f"it ended with exit code {code}" + (f": {lines[-1]}" if lines else "")


def _there(job: Job, out: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Files by where they will lie in the job's folder, and the job that names them there."""
    here = job_json(job, out)
    model, runtime = Path(here["model"]), Path(here["runtime_file"])
    # a folder each: what lies beside the runner, or a model called numpy.py, must not be imported
    files = {"runner/runner.py": RUNNER, f"runtime/{runtime.name}": runtime}
    files |= {f"model/{name}": job.artifact.path / name for name in job.artifact.files}
    inputs = {name: f"inputs/{index}.npy" for index, name in enumerate(job.inputs)}
    files |= {inputs[name]: path for name, path in job.inputs.items()}
    if here["sensors"]:
        files["sensors/sensors.py"] = Path(here["sensors"])
    outputs = {**here["outputs"], "folder": "out"} if here["outputs"] else None
    driver = here["driver"]
    if driver:
        name = f"driver/{Path(driver['file']).name}"
        files[name], driver = Path(driver["file"]), {**driver, "file": name}
    there = {
        **here,
        "runtime_file": f"runtime/{runtime.name}",
        "model": f"model/{model.name}",
        "inputs": inputs,
        "outputs": outputs,
        "profile": {"folder": "out"} if here["profile"] else None,
        "driver": driver,
        "sensors": "sensors/sensors.py" if here["sensors"] else None,
    }
    return files, there
