"""Releases of a deployed model on a phone: as on a board (`ondevice/releases.py`), with a shell and a native runner.

FOLDER/releases/ID/   the bundle, `runner` and `library.so` for this device, `job.json` and `run`
FOLDER/current        → releases/ID, replaced by one rename; `previous` → the release before

`run OUT INPUT.npy …` runs the model on the phone without edgekit; one with states generates tokens. The samples of the
check are run on the phone, and their outputs are compared on this machine: those of a model with states are computed
position by position, as a request computes them.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import sha256
from edgekit.core.target import Target
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared import native
from edgekit.devices.shared.adb import HOME, ROOT, Phone
from edgekit.devices.shared.arrays import archive_arrays, array_bytes
from edgekit.devices.shared.bundle import MANIFEST, Bundle
from edgekit.devices.shared.releases import CHECK_SECONDS
from edgekit.devices.shared.results import HEADER_BYTES, RESULT, WIDEST
from edgekit.devices.shared.untrusted import json_object, shown
from edgekit.ondevice.predict import compare_outputs

ID = re.compile(r"[0-9a-f]{16}")
#: bytes of the arrays of a check, and of its result
ARRAYS_BYTES, RESULT_BYTES = 1 << 28, 1 << 20
#: what a check says of the bundle's files
NOT_REPLAYED = {
    "count": 0,
    "skipped": "a phone's runner reads arrays: preprocessing was not checked there",
}
RUN = """#!/bin/sh
# run OUT INPUT.npy ...: one array per input, samples along its first axis; the outputs are written to the folder OUT
# of a model that generates text, they are the NEW_TOKENS (32) that follow each prompt
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$1" && exec "$here/runner" --predict "$here/job.json" "$@"
"""
#: runs the samples of the check, of a model with states after what a user runs
CHECK = """cd {place} || exit 1
set --
for input in check/input*.npy; do set -- "$@" {place}/$input; done
NEW_TOKENS=1 sh ./run {out} "$@" || exit
[ ! -f check/job.json ] || ./runner --predict check/job.json {out} "$@"
"""
NEW_TOKENS = 32
STATUS = """cd {folder} 2>/dev/null || exit 0
for name in current previous; do echo "$name $(readlink $name 2>/dev/null)"; done
for id in releases/*; do echo "release $id"; done"""


class NativeReleases:
    def __init__(self, phone: Phone, target: Target, folder: str) -> None:
        """`folder` is relative to the shell user's writable folder, unless it is absolute. Raises InputError."""
        self.phone, self.target = phone, target
        self.folder = posixpath.normpath(posixpath.join(HOME, folder))
        if self.folder == HOME or self.folder.startswith(ROOT):
            raise InputError(f"cannot deploy to {self.folder}", next="choose another folder with --path")

    def status(self) -> Mapping[str, Any]:
        lines = [line.split(" ", 1) for line in self._checked(STATUS).splitlines() if " " in line]
        entries = [(name, posixpath.basename(path.strip())) for name, path in lines]
        entries = [(name, id) for name, id in entries if ID.fullmatch(id)]  # other files are not edgekit's
        links, names = dict(entries), sorted(id for name, id in entries if name == "release")
        return {"current": links.get("current"), "previous": links.get("previous"), "releases": names}

    def place(self, bundle: Bundle) -> Mapping[str, Any]:
        runtime = str(bundle.manifest["runtime"])
        runner, library = native.runner(self.phone.facts), native.library(self.target, self.phone.facts, runtime)
        with self.phone.reserved(), temporary_folder() as folder:
            files = {**bundle.files, "runner": runner, "library.so": library}
            files |= self._extra_files(bundle, native.version(self.target, runtime, library), folder)
            hashes = {name: sha256(path) for name, path in files.items()}
            if self._intact(bundle.id, hashes):
                return {"placed": False}
            self.phone.send({hashes[name]: path for name, path in files.items()}, {})
            self._checked(_release_script(bundle.id, hashes))
            if not self._intact(bundle.id, hashes):
                what = f"a file was damaged on its way to {self.phone.name}"
                raise DeviceError(
                    what, "the sha256 of the received file differs", "run it again; is its storage failing?"
                )
        return {"placed": True}

    def check(self, id: str) -> Mapping[str, Any]:
        """Run the release's own samples on the phone and compare the outputs with the host's."""
        place, out = self._path(id), f"{ROOT}/jobs/{uuid.uuid4().hex}"
        with self.phone.reserved(), temporary_folder() as folder:
            local = folder
            code, output = self.phone.shell(CHECK.format(place=place, out=out), CHECK_SECONDS)
            try:
                what, next = f"checking the release on {self.phone.name}", "deploy a smaller model, or try again"
                self.phone.check_exit(code, output, what, CHECK_SECONDS, next)
                self.phone.pull(place, local, {MANIFEST: RESULT_BYTES})
                self.phone.pull(f"{place}/check", local, {"outputs.npz": ARRAYS_BYTES})
                declared = json_object((local / MANIFEST).read_bytes())["check"]
                tolerance = float(declared["tolerance"])
                expected = archive_arrays(local / "outputs.npz", ARRAYS_BYTES)
                most = max((array.size * WIDEST + HEADER_BYTES for array in expected.values()), default=0)
                names = [f"output{index}.npy" for index in range(len(expected))]
                self.phone.pull(out, local, {RESULT: RESULT_BYTES, **dict.fromkeys(names, most)})
                result = json_object((local / RESULT).read_bytes())
                if result["error"]:
                    return {"ok": False, "why": shown(result["error"]["what"], 300)}
                outputs = {}
                for name, path in result["outputs"].items():
                    file = local / posixpath.basename(path)
                    if file.name not in names or name not in expected:
                        raise ValueError(f"the output {shown(name)} is not the model's")
                    if array_bytes(file)[0] == expected[name].shape:
                        outputs[name] = np.load(file, allow_pickle=False)
                if not expected:
                    raise ValueError("the release holds no outputs to compare with")
                result = dict(compare_outputs(outputs, expected, tolerance))
                return {**result, "files": NOT_REPLAYED} if declared.get("files") else result
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                return {"ok": False, "why": shown(error, 300)}
            except DeviceError as error:
                return {"ok": False, "why": f"{error.what}: {error.why}" if error.why else error.what}
            finally:
                self.phone.shell(f"rm -rf {out}")

    def switch(self, id: str) -> Mapping[str, Any]:
        before = self.status()["current"]
        with self.phone.reserved():
            links = [f"./{self._own(id)}/runner --link releases/{id} current"]
            if before and before != id:
                links.insert(0, f"./{self._own(id)}/runner --link releases/{before} previous")
            self._checked(f"cd {{folder}} && {' && '.join(links)}")
            keep = {id, self.status()["previous"]}
            for old in set(self.status()["releases"]) - keep:
                self._checked(f"rm -rf {{folder}}/releases/{old}")
        return self._switched()

    def rollback(self) -> Mapping[str, Any]:
        status = self.status()
        now, back = status["current"], status["previous"]
        if not back or back == now or back not in status["releases"]:
            why = f"there is no release before the current one in {self.folder}"
            raise InputError(f"cannot roll back on {self.phone.name}", why, "deploy a second one first")
        check = self.check(back)
        if not check["ok"]:
            return {"check": check, "current": now, "previous": back}
        with self.phone.reserved():
            link = f"./{self._own(back)}/runner --link"
            self._checked(f"cd {{folder}} && {link} releases/{back} current && {link} releases/{now} previous")
        return {**self._switched(), "check": check}

    def _switched(self) -> dict[str, Any]:
        return {**self.status(), "at": f"{self.folder}/current", "python": ""}

    def _own(self, id: str) -> str:
        if not ID.fullmatch(id):
            raise InputError(f"{id!r} is not a release")
        return f"releases/{id}"

    def _path(self, id: str) -> str:
        return f"{shlex.quote(self.folder)}/{self._own(id)}"

    def _checked(self, script: str) -> str:
        """The output of a script, in which `{folder}` is the deployment's, quoted. Raises DeviceError if it fails."""
        return self.phone.checked(script.replace("{folder}", shlex.quote(self.folder)))

    def _extra_files(self, bundle: Bundle, version: str, folder: Path) -> dict[str, Path]:
        """The files that a phone's release has in addition to the bundle's; they contain no path of this machine."""
        job: dict[str, Any] = {
            "runtime": bundle.manifest["runtime"],
            "library": "library.so",
            "version": version,
            "model": bundle.manifest["model"],
        }
        states = bundle.manifest.get("states")
        if states:
            job |= {"specs": {"states": states}, "outputs": {"new_tokens": NEW_TOKENS}}
        (folder / "job.json").write_text(json.dumps(job) + "\n")
        (folder / "run").write_text(RUN)
        files = {"job.json": folder / "job.json", "run": folder / "run"}
        with np.load(bundle.files["check/inputs.npz"], allow_pickle=False) as arrays:
            for place, spec in enumerate(bundle.manifest["inputs"]):
                name = spec["name"] if spec["name"] in arrays.files else arrays.files[0]
                array = np.ascontiguousarray(arrays[name])
                np.save(folder / f"input{place:02}.npy", array)
                files[f"check/input{place:02}.npy"] = folder / f"input{place:02}.npy"
        if states:  # such a model has one input
            job |= {"library": "../library.so", "model": f"../{job['model']}"}
            job["outputs"] = {"stepwise": array.shape[1] // 2}
            (folder / "check.json").write_text(json.dumps(job) + "\n")
            files["check/job.json"] = folder / "check.json"
        return files

    def _intact(self, id: str, hashes: Mapping[str, str]) -> bool:
        """Are all files of a release on the phone, with the right sha256?"""
        names = " ".join(shlex.quote(name) for name in sorted(hashes))
        output = self.phone.shell(f"cd {self._path(id)} 2>/dev/null && sha256sum {names} 2>/dev/null")[1]
        lines = [line.split(maxsplit=1) for line in output.splitlines()]
        return {words[1].strip(): words[0] for words in lines if len(words) == 2} == dict(hashes)


def _release_script(id: str, hashes: Mapping[str, str]) -> str:
    """The script that creates a release, atomically, from files stored on the phone by their sha256."""
    part = f"{{folder}}/releases/{id}.part"
    folders = sorted({posixpath.dirname(name) for name in hashes} - {""})
    quoted = " ".join(shlex.quote(name) for name in folders)
    lines = [f"rm -rf {part}", f"mkdir -p {part}", f"cd {part}", *([f"mkdir -p {quoted}"] if quoted else [])]
    lines += [f"cp {ROOT}/files/{sha} {shlex.quote(name)}" for name, sha in sorted(hashes.items())]
    lines += ["chmod 755 runner run", "sync", f"rm -rf ../{id}", f"cd .. && mv {id}.part {id}"]
    return " && ".join(lines)
