"""The interface for `edgekit deploy`: releases of one model in one folder of a device, and a switch between them.

A device offers `releases(folder) -> Releases`. A device with Python uses `PythonReleases`: it runs
`ondevice/releases.py` like a job, and only the bundle's files that the device does not have are sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from edgekit.core.errors import DeviceError, InputError
from edgekit.devices.shared.bundle import Bundle
from edgekit.devices.shared.job import RUNNER
from edgekit.ondevice.releases import SCHEMA

SCRIPT = RUNNER.with_name("releases.py")
#: time-out of a check in seconds: a small board is slow to import a runtime and load a model
CHECK_SECONDS = 300.0


class Releases(Protocol):
    """The releases of one model in one folder of a device. Every method raises DeviceError on failure."""

    def status(self) -> Mapping[str, Any]:
        """`current` and `previous` (ids or None), and `releases`, the ids of all releases on the device."""
        ...

    def place(self, bundle: Bundle) -> Mapping[str, Any]:
        """Add a bundle as a release, after checking every file's sha256; `placed`: it was not there before."""
        ...

    def check(self, id: str) -> Mapping[str, Any]:
        """Run the release's own samples on the device: `ok`, differences from the host's outputs, `why` if not ok."""
        ...

    def switch(self, id: str) -> Mapping[str, Any]:
        """Make it the current release, atomically: the status, `at` (the folder to use) and the `python` it runs in."""
        ...

    def rollback(self) -> Mapping[str, Any]:
        """Check the previous release and make it current: as `switch`, with `check`; if not `ok`, nothing changes."""
        ...


class Runs(Protocol):
    """A device that can run edgekit's own Python scripts."""

    def script(
        self, source: Path, request: Mapping[str, Any], files: Mapping[str, Path], runtime: str, timeout: float
    ) -> Mapping[str, Any]:
        """Run `python SOURCE JOB RESULT` with `files` in the job's folder; a `runtime` adds its `environment`.

        Returns the result's JSON. Raises DeviceError.
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
        check: Mapping[str, Any] = self._ask("check", id=id)["check"]
        return check

    def switch(self, id: str) -> Mapping[str, Any]:
        return self._ask("switch", id=id)

    def rollback(self) -> Mapping[str, Any]:
        return self._ask("rollback")

    def _ask(
        self, do: str, bundle: Mapping[str, Path] | None = None, runtime: str = "", **fields: Any
    ) -> dict[str, Any]:
        request = {"do": do, "folder": self._folder, "environment": "", **fields}
        result = dict(self._device.script(SCRIPT, request, bundle or {}, runtime, CHECK_SECONDS))
        if result.get("schema") != SCHEMA:
            why = f"its schema is {result.get('schema')!r}, not {SCHEMA}"
            raise DeviceError(f"{self._name} sent an invalid result", why, "run it again; is its storage failing?")
        error = result.pop("error", None)
        if error and do == "rollback" and error.startswith("there is no release"):
            raise InputError(f"cannot roll back on {self._name}", error, "deploy a second one first")
        if error and "No space left on device" in error:
            raise DeviceError(f"the disk of {self._name} is full", error, f"edgekit targets clean {self._name}")
        if error:
            what = f"{self._name} could not {do} the deployment"
            raise DeviceError(what, error, "fix that on the device, or choose another folder with --path")
        return result


def read_result(path: Path, name: str) -> dict[str, Any]:
    """A script's result. Raises DeviceError if it is not a JSON object."""
    try:
        result = json.loads(path.read_bytes())
        if not isinstance(result, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise DeviceError(f"{name} sent an invalid result", why, "run it again; is its storage failing?") from error
    return result
