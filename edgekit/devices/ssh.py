"""A board or a server over SSH: one connection, files sent once, one fresh process of its Python per job."""

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
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared import environment as environments
from edgekit.devices.shared import releases, ssh
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.job import RUNNER, job_json, signal_name
from edgekit.devices.shared.releases import RESULT_BYTES, PythonReleases, Releases
from edgekit.devices.shared.results import PROFILE_BYTES, PROFILE_FILES, RESULT, answered_files, result_of
from edgekit.devices.shared.ssh import Answered, Session
from edgekit.devices.shared.untrusted import shown

#: seconds to wait for a job's answer beyond its own time-out
GRACE_SECONDS = 60.0
#: the Raspberry Pi firmware's flags for a clock that is throttled now
THROTTLED = 0b1110


class Ssh(Device):
    provenance: ClassVar[Provenance] = "measured"

    def __init__(self, target: Target, config: str = "") -> None:
        """`config` is an ssh configuration file that replaces the user's. Raises InputError without an address."""
        super().__init__(target)
        self.config = config
        if not target.address:
            next = f"edgekit targets add my-{target.name} --ssh user@host --like {target.name}"
            raise InputError(f"{target.name} has no address", "shipped targets describe a kind of board", next)
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
        """The machine's facts and the package versions of its Python: they are part of a measurement's identity."""
        packages = ["numpy", *(name for runtime in self.target.runtimes for name in environments.packages(runtime))]
        session = self.session
        with session.busy:
            if session.versions is None:
                versions = session.checked(session.call("versions", packages=packages))["versions"]
                session.versions = {name: version for name, version in versions.items() if version}
        return {**session.facts.identity(), "packages": session.versions}

    def clean(self) -> dict[str, Any]:
        """Remove everything edgekit stores on the device; returns how many `bytes`, and the folder, `root`."""
        session = self.session
        with session.busy:
            session.lock()
            removed = session.checked(session.call("clean"))
            session.close()
        return {"bytes": removed["bytes"], "root": shown(removed["root"])}

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        """Why the runtime installed on the device cannot run the artifact; nothing is installed or sent."""
        session = self.session
        with session.busy:
            source = environments.resolve_runtime(session, self.target, runtime)
            if source.how in ("own", "made"):
                try:
                    environments.check_compatible(session, artifact, self.target.name, runtime, source.key)
                except InputError as error:
                    yield error.why

    @classmethod
    def stop_all(cls) -> None:
        ssh.close_all()

    def discard_inputs(self, paths: Iterable[Path]) -> None:
        """Delete files on the device that no later job needs."""
        session = self.session
        with session.busy:
            hashes = [sha256(path) for path in paths]
            session.checked(session.call("discard", files=hashes))
            session.present -= set(hashes)

    def releases(self, folder: str) -> Releases:
        return PythonReleases(self, self.target.name, folder)

    def script(
        self, source: Path, request: Mapping[str, Any], files: Mapping[str, Path], runtime: str, timeout: float
    ) -> Mapping[str, Any]:
        """Run one of edgekit's own scripts on the device, like a job."""
        session = self.session
        with session.busy, temporary_folder() as folder:
            session.lock()
            environment = environments.ready(session, self.target, runtime) if runtime else ""
            links = {name: sha256(path) for name, path in {"runner/runner.py": source, **files}.items()}
            session.send({links[name]: path for name, path in {"runner/runner.py": source, **files}.items()})
            answer = session.call(
                "run",
                answered=Answered(folder, {RESULT: RESULT_BYTES}),
                links=links,
                job={**request, "environment": environment},
                environment=environment,
                threads=1,
                limit=timeout,
                timeout=timeout + GRACE_SECONDS,
            )
            what, next = f"deploying to {self.target.name}", "deploy a smaller model, or try again on an idle device"
            self._check(session.checked(answer), what, timeout, folder, next)
            return releases.read_result(folder / "result.json", self.target.name)

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        session = self.session
        with session.busy:
            session.lock()
            environment = environments.ready(session, self.target, job.runtime)
            environments.check_compatible(session, job.artifact, self.target.name, job.runtime, environment)
            files, request = _remote_job(job, out)
            links = {name: sha256(path) for name, path in files.items()}
            session.send({links[name]: path for name, path in files.items()})
            answer = session.call(
                "run",
                answered=_answered(job, out),
                links=links,
                job=request,
                environment=environment,
                threads=job.plan.threads,
                limit=job.plan.timeout,
                timeout=job.plan.timeout + GRACE_SECONDS,
            )
        what = f"running {job.artifact.name} in {job.runtime} on {self.target.name}"
        next = "use --quick, or allow more time in a recipe: edgekit run RECIPE --set plan.timeout=SECONDS"
        self._check(session.checked(answer), what, job.plan.timeout, out, next)
        result = result_of(out, self.target.name, job)
        if answer["temperature_c"] is not None and not result["error"]:
            result["facts"]["temperature_c"] = answer["temperature_c"]
        if answer["throttled"] & THROTTLED and "watch" in result:
            result["watch"]["throttled"] += 1
        if result["error"] and result["error"]["kind"] == "missing":
            what = f"{job.runtime} cannot be imported on {self.target.name}"
            next = f"edgekit targets clean {self.target.name}, then run it again"
            raise DeviceError(what, result["error"]["what"], next)
        return result

    def _check(self, answer: Mapping[str, Any], what: str, limit: float, out: Path, next: str) -> None:
        """Raises DeviceError if there is no result; `next` is what to do if it took too long."""
        if answer["timed_out"]:
            raise DeviceError(
                f"{what} took too long",
                f"no result after {limit:g} s; it was stopped",
                next,
            )
        if not (out / "result.json").is_file():
            raise DeviceError(f"{what} failed", self._why(answer), "see log.txt in the run folder")

    def _why(self, answer: Mapping[str, Any]) -> str:
        code, lines = answer["code"], [shown(line, 300) for line in answer["said"].strip().splitlines()[-1:]]
        memory = f"it has {self.session.facts.memory_bytes >> 20} MB"
        if code == -signal.SIGKILL:
            return f"the process was killed, probably because memory ran out: {memory}"
        if code == -signal.SIGBUS and answer["free"] < 1 << 24:
            return f"its disk is full: {answer['free'] >> 10} kB are free"
        if code < 0:
            return f"the process was killed by {signal_name(-code)}" + (f": {lines[-1]}" if lines else "")
        if lines and "No space left on device" in lines[-1]:
            return f"its disk is full: {lines[-1]}"
        return f"it ended with exit code {code}" + (f": {lines[-1]}" if lines else "")


def _answered(job: Job, out: Path) -> Answered:
    if job.profile:
        return Answered(out, answered_files(job), PROFILE_FILES, PROFILE_BYTES)
    return Answered(out, answered_files(job))


def _remote_job(job: Job, out: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Files by their path in the job's folder, and the job with those paths."""
    local = job_json(job, out)
    model, runtime = Path(local["model"]), Path(local["runtime_file"])
    # one folder each: a file next to the runner, such as a model called numpy.py, must not be imported
    files = {"runner/runner.py": RUNNER, f"runtime/{runtime.name}": runtime}
    files |= {f"model/{name}": job.artifact.path / name for name in job.artifact.files}
    inputs = {name: f"inputs/{index}.npy" for index, name in enumerate(job.inputs)}
    files |= {inputs[name]: path for name, path in job.inputs.items()}
    if local["sensors"]:
        files["sensors/sensors.py"] = Path(local["sensors"])
    outputs = {**local["outputs"], "folder": "out"} if local["outputs"] else None
    driver = local["driver"]
    if driver:
        name = f"driver/{Path(driver['file']).name}"
        files[name], driver = Path(driver["file"]), {**driver, "file": name}
    remote = {
        **local,
        "runtime_file": f"runtime/{runtime.name}",
        "model": f"model/{model.name}",
        "inputs": inputs,
        "outputs": outputs,
        "profile": {"folder": "out"} if local["profile"] else None,
        "driver": driver,
        "sensors": "sensors/sensors.py" if local["sensors"] else None,
    }
    return files, remote
