"""A phone over adb: one archive pushed, a native runner in place of Python, results pulled.

It was tried against the real adbd on Linux for arm64, never on a phone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.device import Device, Job
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.files import sha256
from edgekit.core.target import Provenance, Target
from edgekit.devices.shared import adb, native
from edgekit.devices.shared.adb import ROOT, RUN, Phone
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.job import job_json, result_of
from edgekit.devices.shared.phone_releases import NativeReleases
from edgekit.devices.shared.releases import Releases

#: seconds beyond a job's own time-out that its end may take to come here
GRACE_SECONDS = 30.0


class Adb(Device):
    provenance: ClassVar[Provenance] = "measured"

    def __init__(self, target: Target) -> None:
        """Raises InputError where the target says how, but not which."""
        super().__init__(target)
        if not target.address:
            next = f"edgekit targets add my-phone --adb SERIAL --like {target.name}"
            raise InputError(f"{target.name} is a kind of phone, without a serial number", "edgekit ships none", next)

    @property
    def phone(self) -> Phone:
        return adb.phone(self.target.name, self.target.address)

    @property
    def machine(self) -> Facts:
        return self.phone.facts

    @property
    def sent_bytes(self) -> int:
        return self.phone.sent_bytes

    def facts(self) -> Mapping[str, Any]:
        """Beside the machine, the libraries that the user gave: another one is another measurement."""
        given = {name: sha256(Path(path).expanduser())[:16] for name, path in self.target.libraries.items()}
        return {**self.phone.facts.identity(), **({"libraries": given} if given else {})}

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        """Why it cannot run there; nothing is sent."""
        try:
            _refuse(artifact, runtime, self.target.name)
        except InputError as error:
            yield error.why

    def releases(self, folder: str) -> Releases:
        return NativeReleases(self.phone, self.target, folder)

    @classmethod
    def stop_all(cls) -> None:
        adb.close_all()

    def forget(self, paths: Iterable[Path]) -> None:
        """Files that will not be needed again there."""
        phone = self.phone
        with phone.busy:
            gone = [sha256(path) for path in paths]
            phone.checked(f"cd {ROOT}/files && rm -f {' '.join(gone)}")
            phone.present -= set(gone)

    def clean(self) -> dict[str, Any]:
        """Remove everything edgekit keeps there; says how many `bytes`, and where (`root`)."""
        phone = self.phone
        with phone.working():
            said = phone.checked(f"du -sk {ROOT} 2>/dev/null; rm -rf {ROOT}")
            phone.present.clear()
        words = said.split()
        return {"bytes": int(words[0]) * 1024 if words and words[0].isdecimal() else 0, "root": ROOT}

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        _refuse(job.artifact, job.runtime, self.target.name)
        if job.profile:
            why = "the runner of a phone tells no times per operator"
            raise InputError(f"no operators of {self.target.name}", why, "ask a board, or this machine")
        phone = self.phone
        with phone.working():
            runner = native.runner(phone.facts)
            library = native.library(self.target, phone.facts, job.runtime)
            folder = f"{ROOT}/jobs/{uuid.uuid4().hex}"
            files, described = _there(job, out, library, folder)
            described["version"] = native.version(self.target, job.runtime, library)
            text = json.dumps(described).encode()
            try:
                phone.send(
                    {sha256(path): path for path in [runner, *files]},
                    {f"{folder[len(ROOT) + 1 :]}/job.json": text},
                )
                phone.checked(_made(job, folder))
                script = RUN.format(folder=folder, threads=job.plan.threads, runner=f"{ROOT}/files/{sha256(runner)}")
                what = f"running {job.artifact.name} in {job.runtime} on {self.target.name}"
                code, said = phone.shell(script, job.plan.timeout + GRACE_SECONDS, what)
                phone.ended(code, said, what, job.plan.timeout)
                phone.pull(f"{folder}/out/.", out)
            finally:
                _leave(phone, folder)
        return result_of(out, self.target.name)


def _refuse(artifact: Artifact, runtime: str, name: str) -> None:
    native.check(runtime, name)
    if "driver.json" in artifact.files:
        why = "what goes round its model is written in Python, which a phone has not"
        raise InputError(f"{artifact.name} does not run on {name}", why, "measure it on a board")


def _there(job: Job, out: Path, library: Path, folder: str) -> tuple[list[Path], dict[str, Any]]:
    """The files a job needs, and the job that names them where they will lie."""
    here, files = job_json(job, out), f"{ROOT}/files"
    model = Path(here["model"])
    kept = [job.artifact.path / name for name in job.artifact.files]
    described = {
        **{name: here[name] for name in ("threads", "precision", "latency", "sustained")},
        "limit": max(1, round(job.plan.timeout)),
        "runtime": job.runtime,
        "library": f"{files}/{sha256(library)}",
        "model": f"{folder}/model/{model.name}" if len(kept) > 1 else f"{files}/{sha256(model)}",
        "inputs": {name: f"{files}/{sha256(path)}" for name, path in job.inputs.items()},
        "outputs": {**here["outputs"], "folder": f"{folder}/out"} if here["outputs"] else None,
    }
    return [library, *kept, *job.inputs.values()], described


def _made(job: Job, folder: str) -> str:
    """The script that makes a job's folder; a model of several files gets them under their own names."""
    lines = [f"mkdir -p {folder}/out {folder}/model"]
    if len(job.artifact.files) > 1:
        for name in job.artifact.files:
            if not name.replace(".", "").replace("-", "").replace("_", "").isalnum():
                raise InputError(f"{job.artifact.name} has a file called {name!r}", next="rename it: letters, digits")
            lines.append(f"cp {ROOT}/files/{sha256(job.artifact.path / name)} {folder}/model/{name}")
    return " && ".join(lines)


def _leave(phone: Phone, folder: str) -> None:
    """The job's folder goes; where the device went, that stays for the next time."""
    try:
        phone.shell(f"rm -rf {folder}")
    except EdgekitError as error:
        adb.log.debug("%s: %s", phone.name, error)
