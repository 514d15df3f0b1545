"""Releases of one deployed model on a phone: as on a board (`ondevice/releases.py`), by its shell and a native runner.

FOLDER/releases/ID/   the bundle, `runner` and `library.so` for this device, `job.json` and `run`
FOLDER/current        → releases/ID, replaced by one rename; `previous` → the one before

`run OUT INPUT.npy …` there answers without edgekit. The samples of the check are run there and judged here.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import sha256
from edgekit.core.target import Target
from edgekit.devices.shared import native
from edgekit.devices.shared.adb import HOME, ROOT, Phone
from edgekit.devices.shared.bundle import MANIFEST, Bundle
from edgekit.devices.shared.releases import CHECK_SECONDS
from edgekit.ondevice.predict import agreement

ID = re.compile(r"[0-9a-f]{16}")
RUN = """#!/bin/sh
# run OUT INPUT.npy ...: one array per input, samples along its first axis; the outputs come to the folder OUT
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$1" && exec "$here/runner" --predict "$here/job.json" "$@"
"""
STATUS = """cd {folder} 2>/dev/null || exit 0
for name in current previous; do echo "$name $(readlink $name 2>/dev/null)"; done
for id in releases/*; do echo "release $id"; done"""


class NativeReleases:
    def __init__(self, phone: Phone, target: Target, folder: str) -> None:
        """`folder` is meant from where the shell may write, unless it is absolute. Raises InputError."""
        self.phone, self.target = phone, target
        self.folder = posixpath.normpath(posixpath.join(HOME, folder))
        if self.folder == HOME or self.folder.startswith(ROOT):
            raise InputError(f"nothing can be deployed to {self.folder}", next="name a folder of its own with --path")

    def status(self) -> Mapping[str, Any]:
        lines = [line.split(" ", 1) for line in self._there(STATUS).splitlines() if " " in line]
        found = [(name, posixpath.basename(path.strip())) for name, path in lines]
        found = [(name, id) for name, id in found if ID.fullmatch(id)]  # what else lies there is none of ours
        links, names = dict(found), sorted(id for name, id in found if name == "release")
        return {"current": links.get("current"), "previous": links.get("previous"), "releases": names}

    def place(self, bundle: Bundle) -> Mapping[str, Any]:
        runtime = str(bundle.manifest["runtime"])
        runner, library = native.runner(self.phone.facts), native.library(self.target, self.phone.facts, runtime)
        with self.phone.working(), tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            files = {**bundle.files, "runner": runner, "library.so": library}
            files |= self._written(bundle, native.version(self.target, runtime, library), Path(folder))
            hashes = {name: sha256(path) for name, path in files.items()}
            if self._whole(bundle.id, hashes):
                return {"placed": False}
            self.phone.send({hashes[name]: path for name, path in files.items()}, {})
            self._there(_laid(bundle.id, hashes))
            if not self._whole(bundle.id, hashes):
                what = f"a file came to {self.phone.name} damaged"
                raise DeviceError(what, "what is there has another sha256", "run it again; is its storage failing?")
        return {"placed": True}

    def check(self, id: str) -> Mapping[str, Any]:
        """The release's own samples, run there; its answers are compared with the host's here."""
        place, out = self._path(id), f"{ROOT}/jobs/{uuid.uuid4().hex}"
        with self.phone.working(), tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            here = Path(folder)
            inputs = f'for input in check/input*.npy; do set -- "$@" {place}/$input; done'
            script = f'cd {place} || exit 1\nset --\n{inputs}\nsh ./run {out} "$@"'
            code, said = self.phone.shell(script, CHECK_SECONDS)
            try:
                self.phone.ended(code, said, f"checking the release on {self.phone.name}", CHECK_SECONDS)
                self.phone.pull(f"{out}/.", here)
                for name in (MANIFEST, "check/outputs.npz"):
                    self.phone.pull(f"{place}/{name}", here / posixpath.basename(name))
                result = json.loads((here / "result.json").read_bytes())
                if result["error"]:
                    return {"ok": False, "why": str(result["error"]["what"])}
                tolerance = float(json.loads((here / MANIFEST).read_bytes())["check"]["tolerance"])
                with np.load(here / "outputs.npz", allow_pickle=False) as expected:
                    found = {name: np.load(here / posixpath.basename(path)) for name, path in result["outputs"].items()}
                    wanted = {name: expected[name] for name in expected.files}
                return dict(agreement(found, wanted, tolerance))
            except (OSError, ValueError, KeyError, TypeError) as error:
                return {"ok": False, "why": " ".join(str(error).split())[:300]}
            except DeviceError as error:
                return {"ok": False, "why": f"{error.what}: {error.why}" if error.why else error.what}
            finally:
                self.phone.shell(f"rm -rf {out}")

    def switch(self, id: str) -> Mapping[str, Any]:
        before = self.status()["current"]
        with self.phone.working():
            links = [f"./{self._own(id)}/runner --link releases/{id} current"]
            if before and before != id:
                links.insert(0, f"./{self._own(id)}/runner --link releases/{before} previous")
            self._there(f"cd {{folder}} && {' && '.join(links)}")
            kept = {id, self.status()["previous"]}
            for gone in set(self.status()["releases"]) - kept:
                self._there(f"rm -rf {{folder}}/releases/{gone}")
        return self._switched()

    def rollback(self) -> Mapping[str, Any]:
        found = self.status()
        now, back = found["current"], found["previous"]
        if not back or back == now or back not in found["releases"]:
            why = f"there is no release before the current one in {self.folder}"
            raise InputError(f"cannot roll back on {self.phone.name}", why, "deploy a second one first")
        check = self.check(back)
        if not check["ok"]:
            return {"check": check, "current": now, "previous": back}
        with self.phone.working():
            link = f"./{self._own(back)}/runner --link"
            self._there(f"cd {{folder}} && {link} releases/{back} current && {link} releases/{now} previous")
        return {**self._switched(), "check": check}

    def _switched(self) -> dict[str, Any]:
        return {**self.status(), "at": f"{self.folder}/current", "python": ""}

    def _own(self, id: str) -> str:
        if not ID.fullmatch(id):
            raise InputError(f"{id!r} is no release")
        return f"releases/{id}"

    def _path(self, id: str) -> str:
        return f"{shlex.quote(self.folder)}/{self._own(id)}"

    def _there(self, script: str) -> str:
        """What a script prints that must work; `{folder}` in it is the deployment's, quoted."""
        return self.phone.checked(script.replace("{folder}", shlex.quote(self.folder)))

    def _written(self, bundle: Bundle, version: str, folder: Path) -> dict[str, Path]:
        """What a release on a phone has beside the bundle's files; no path of this machine is in it."""
        job = {
            "runtime": bundle.manifest["runtime"],
            "library": "library.so",
            "version": version,
            "model": bundle.manifest["model"],
        }
        (folder / "job.json").write_text(json.dumps(job) + "\n")
        (folder / "run").write_text(RUN)
        found = {"job.json": folder / "job.json", "run": folder / "run"}
        with np.load(bundle.files["check/inputs.npz"], allow_pickle=False) as arrays:
            for place, spec in enumerate(bundle.manifest["inputs"]):
                name = spec["name"] if spec["name"] in arrays.files else arrays.files[0]
                np.save(folder / f"input{place:02}.npy", np.ascontiguousarray(arrays[name]))
                found[f"check/input{place:02}.npy"] = folder / f"input{place:02}.npy"
        return found

    def _whole(self, id: str, hashes: Mapping[str, str]) -> bool:
        """Is every file of a release there, as it was sent?"""
        names = " ".join(shlex.quote(name) for name in sorted(hashes))
        said = self.phone.shell(f"cd {self._path(id)} 2>/dev/null && sha256sum {names} 2>/dev/null")[1]
        lines = [line.split(maxsplit=1) for line in said.splitlines()]
        return {words[1].strip(): words[0] for words in lines if len(words) == 2} == dict(hashes)


def _laid(id: str, hashes: Mapping[str, str]) -> str:
    """The script that makes a release of files that are there by their sha256: whole, or not at all."""
    part = f"{{folder}}/releases/{id}.part"
    folders = sorted({posixpath.dirname(name) for name in hashes} - {""})
    made = " ".join(shlex.quote(name) for name in folders)
    lines = [f"rm -rf {part}", f"mkdir -p {part}", f"cd {part}", *([f"mkdir -p {made}"] if made else [])]
    lines += [f"cp {ROOT}/files/{sha} {shlex.quote(name)}" for name, sha in sorted(hashes.items())]
    lines += ["chmod 755 runner run", "sync", f"rm -rf ../{id}", f"cd .. && mv {id}.part {id}"]
    return " && ".join(lines)
