"""What `edgekit deploy` asks of a device: releases of one model in one folder, and a switch between them.

A device offers `releases(folder) -> Releases`. Where there is Python, it is `Scripted`: `ondevice/releases.py` runs
there like a job, and only the bundle's files that are not there yet are sent.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from edgekit.core.errors import DeviceError, InputError
from edgekit.devices.shared.bundle import Bundle
from edgekit.devices.shared.job import RUNNER
from edgekit.ondevice.releases import SCHEMA

SCRIPT = RUNNER.with_name("releases.py")
#: seconds for a check: a small board takes some to import a runtime and load a model
CHECK_SECONDS = 300.0


class Releases(Protocol):
    """The releases of one model in one folder of a device. Every method raises DeviceError where it cannot be done."""

    def status(self) -> Mapping[str, Any]:
        """`current` and `previous` (ids or None), and every one there, `releases`."""
        ...

    def place(self, bundle: Bundle) -> Mapping[str, Any]:
        """Put a bundle beside the others, every file's sha256 checked there; `placed`: it was not there yet."""
        ...

    def check(self, id: str) -> Mapping[str, Any]:
        """Run the release's own samples there: `ok`, how far from the host's answers, `why` where too far."""
        ...

    def switch(self, id: str) -> Mapping[str, Any]:
        """Make it the current one, at once: the status, `at` (the folder to use) and the `python` it runs in."""
        ...

    def rollback(self) -> Mapping[str, Any]:
        """Check the release before and make it the current one: as `switch`, with `check`; not `ok`: as it was."""
        ...


class Runs(Protocol):
    """A device that can run one of edgekit's own scripts."""

    def script(
        self, source: Path, request: Mapping[str, Any], files: Mapping[str, Path], runtime: str, timeout: float
    ) -> Mapping[str, Any]:
        """`python SOURCE JOB RESULT` there, `files` beside the job; `environment` is added where a runtime is named.

        The result as JSON. Raises DeviceError.
        """
        ...


class PythonReleases:
    """Releases through `ondevice/releases.py`."""

    def __init__(self, device: Runs, name: str, folder: str) -> None:
        self._device, self._name, self._folder = device, name, folder

    def status(self) -> Mapping[str, Any]:
        return self._ask("status")

    def place(self, bundle: Bundle) -> Mapping[str, Any]:
        files = {f"bundle/{name}": path for name, path in bundle.files.items()}
        runtime = str(bundle.manifest["runtime"])
        return self._ask("place", files, runtime, id=bundle.id, files=dict(bundle.sha256))

    def check(self, id: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._ask("check", id=id)["check"]
        return found

    def switch(self, id: str) -> Mapping[str, Any]:
        return self._ask("switch", id=id)

    def rollback(self) -> Mapping[str, Any]:
        return self._ask("rollback")

    def _ask(
        self, do: str, beside: Mapping[str, Path] | None = None, runtime: str = "", **fields: Any
    ) -> dict[str, Any]:
        request = {"do": do, "folder": self._folder, "environment": "", **fields}
        result = dict(self._device.script(SCRIPT, request, beside or {}, runtime, CHECK_SECONDS))
        if result.get("schema") != SCHEMA:
            why = f"its schema is {result.get('schema')!r}, not {SCHEMA}"
            raise DeviceError(f"{self._name} sent what is not a result", why, "run it again; is its storage failing?")
        error = result.pop("error", None)
        if error and do == "rollback" and error.startswith("there is no release"):
            raise InputError(f"cannot roll back on {self._name}", error, "deploy a second one first")
        if error and "No space left on device" in error:
            raise DeviceError(f"the disk of {self._name} is full", error, f"edgekit targets clean {self._name}")
        if error:
            what = f"{self._name} could not {do} the deployment"
            raise DeviceError(what, error, "mend that there, or name another folder with --path")
        return result


def read(path: Path, name: str) -> dict[str, Any]:
    """A script's result. Raises DeviceError where it is none."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise DeviceError(f"{name} sent what is not a result", why, "run it again; is its storage failing?") from error
    return found


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgekit-")
