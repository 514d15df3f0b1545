"""A phone over adb: one archive is pushed, a native runner replaces Python, and the results are pulled.

It is tested against the real adbd on Linux for arm64, and was never run on a phone.
"""

from __future__ import annotations

import json
import re
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
from edgekit.devices.shared.job import job_json
from edgekit.devices.shared.phone_releases import NativeReleases
from edgekit.devices.shared.releases import Releases
from edgekit.devices.shared.results import answered_files, result_of

#: seconds to wait for a job's end beyond its own time-out
GRACE_SECONDS = 30.0
#: the runtime in which the native runner keeps a model's states
STATES_RUNTIME = "onnxruntime"


class Adb(Device):
    provenance: ClassVar[Provenance] = "measured"

    def __init__(self, target: Target) -> None:
        """Raises InputError if the target has no serial number."""
        super().__init__(target)
        if not target.address:
            next = f"edgekit targets add my-phone --adb SERIAL --like {target.name}"
            why = "shipped targets describe a kind of phone"
            raise InputError(f"{target.name} has no serial number", why, next)

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
        """The machine's facts and the sha256 of the user's own libraries: they are part of a measurement's identity."""
        libraries = {name: sha256(Path(path).expanduser())[:16] for name, path in self.target.libraries.items()}
        return {**self.phone.facts.identity(), **({"libraries": libraries} if libraries else {})}

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        """Why the artifact cannot run on the device; nothing is sent."""
        try:
            _check_compatible(artifact, runtime, self.target.name)
        except InputError as error:
            yield error.why

    def releases(self, folder: str) -> Releases:
        return NativeReleases(self.phone, self.target, folder)

    @classmethod
    def stop_all(cls) -> None:
        adb.close_all()

    def discard_inputs(self, paths: Iterable[Path]) -> None:
        """Delete files on the device that no later job needs."""
        phone = self.phone
        with phone.busy:
            hashes = [sha256(path) for path in paths]
            phone.checked(f"cd {ROOT}/files && rm -f {' '.join(hashes)}")
            phone.present -= set(hashes)

    def clean(self) -> dict[str, Any]:
        """Remove everything edgekit stores on the device; returns how many `bytes`, and the folder, `root`."""
        phone = self.phone
        with phone.reserved():
            usage = phone.checked(f"du -sk {ROOT} 2>/dev/null; rm -rf {ROOT}")
            phone.present.clear()
        words = usage.split()
        return {"bytes": int(words[0]) * 1024 if words and re.fullmatch(r"\d{1,12}", words[0]) else 0, "root": ROOT}

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        _check_compatible(job.artifact, job.runtime, self.target.name)
        if job.profile:
            why = "the native runner cannot profile"
            raise InputError(f"no operators of {self.target.name}", why, "profile on a board, or on this machine")
        phone = self.phone
        with phone.reserved():
            runner = native.runner(phone.facts)
            library = native.library(self.target, phone.facts, job.runtime)
            folder = f"{ROOT}/jobs/{uuid.uuid4().hex}"
            files, request = _remote_job(job, out, library, folder)
            request["version"] = native.version(self.target, job.runtime, library)
            text = json.dumps(request).encode()
            try:
                phone.send(
                    {sha256(path): path for path in [runner, *files]},
                    {f"{folder[len(ROOT) + 1 :]}/job.json": text},
                )
                phone.checked(_folder_script(job, folder))
                script = RUN.format(folder=folder, threads=job.plan.threads, runner=f"{ROOT}/files/{sha256(runner)}")
                what = f"running {job.artifact.name} in {job.runtime} on {self.target.name}"
                code, output = phone.shell(script, job.plan.timeout + GRACE_SECONDS, what)
                phone.check_exit(code, output, what, job.plan.timeout)
                phone.pull(f"{folder}/out", out, answered_files(job))
            finally:
                _remove_folder(phone, folder)
        return result_of(out, self.target.name, job)


def _check_compatible(artifact: Artifact, runtime: str, name: str) -> None:
    native.check_supported(runtime, name)
    if "driver.json" in artifact.files:
        why = "its decoding loop is written in Python, which a phone does not have"
        raise InputError(f"{artifact.name} does not run on {name}", why, "measure it on a board")
    if artifact.states and runtime != STATES_RUNTIME:
        why = f"it has states, which the native runner keeps in {STATES_RUNTIME} only"
        raise InputError(f"{artifact.name} does not run on {name} in {runtime}", why, "export it to ONNX")


def _remote_job(job: Job, out: Path, library: Path, folder: str) -> tuple[list[Path], dict[str, Any]]:
    """The files a job needs, and the job with their paths on the device."""
    local, files = job_json(job, out), f"{ROOT}/files"
    model = Path(local["model"])
    model_files = [job.artifact.path / name for name in job.artifact.files]
    request = {
        **{name: local[name] for name in ("threads", "precision", "latency", "sustained")},
        "specs": {"states": local["specs"]["states"]},
        "limit": max(1, round(job.plan.timeout)),
        "runtime": job.runtime,
        "library": f"{files}/{sha256(library)}",
        "model": f"{folder}/model/{model.name}" if len(model_files) > 1 else f"{files}/{sha256(model)}",
        "inputs": {name: f"{files}/{sha256(path)}" for name, path in job.inputs.items()},
        "outputs": {**local["outputs"], "folder": f"{folder}/out"} if local["outputs"] else None,
    }
    return [library, *model_files, *job.inputs.values()], request


def _folder_script(job: Job, folder: str) -> str:
    """The script that creates a job's folder; the files of a model with several are copied under their own names."""
    lines = [f"mkdir -p {folder}/out {folder}/model"]
    if len(job.artifact.files) > 1:
        for name in job.artifact.files:
            if not name.replace(".", "").replace("-", "").replace("_", "").isalnum():
                raise InputError(
                    f"{job.artifact.name} has a file called {name!r}", next="rename it to letters and digits"
                )
            lines.append(f"cp {ROOT}/files/{sha256(job.artifact.path / name)} {folder}/model/{name}")
    return " && ".join(lines)


def _remove_folder(phone: Phone, folder: str) -> None:
    """Remove the job's folder. If the device is disconnected, the folder is removed on the next connection."""
    try:
        phone.shell(f"rm -rf {folder}")
    except EdgekitError as error:
        adb.log.debug("%s: %s", phone.name, error)
