"""The interface for `edgekit deploy`: releases of one model in one folder of a device, and a switch between them.

A device offers `releases(folder) -> Releases`. A device with Python uses `PythonReleases`: it runs
`ondevice/releases.py` like a job, and only the bundle's files that the device does not have are sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgekit.core.errors import DeviceError, InputError
from edgekit.devices.shared.bundle import Bundle
from edgekit.devices.shared.job import RUNNER
from edgekit.devices.shared.untrusted import invalid, json_object, record, shown
from edgekit.ondevice.releases import SCHEMA

SCRIPT = RUNNER.with_name("releases.py")
#: time-out of a check in seconds: a small board is slow to import a runtime and load a model
CHECK_SECONDS = 300.0
#: bytes of a script's result, and characters of a release's name
RESULT_BYTES, LONGEST_ID = 1 << 20, 255


@dataclass(frozen=True)
class Status:
    """See `Releases.status`."""

    current: str | None
    previous: str | None
    releases: tuple[str, ...]

    def problems(self) -> Iterator[str]:
        for id in filter(None, (self.current, self.previous, *self.releases)):
            if len(id) > LONGEST_ID or not id.isprintable():
                yield f"{id!r} is not a release"


@dataclass(frozen=True)
class Placed:
    placed: bool


@dataclass(frozen=True)
class Checked:
    check: Mapping[str, Any]

    def problems(self) -> Iterator[str]:
        yield from check_problems(self.check)


@dataclass(frozen=True)
class Switched(Status):
    at: str
    python: str


@dataclass(frozen=True)
class RolledBack:
    """As `Switched`; if the check failed, nothing was switched."""

    check: Mapping[str, Any]
    current: str | None
    previous: str | None
    releases: tuple[str, ...] = ()
    at: str = ""
    python: str = ""

    def problems(self) -> Iterator[str]:
        yield from check_problems(self.check)
        if self.check.get("ok") and not (self.current and self.at):
            yield "it was switched, and current or at is missing"


@dataclass(frozen=True)
class Replayed:
    """The bundle's files, replayed on the device (`ondevice/predict.py`)."""

    count: int
    skipped: str = ""
    why: str = ""
    max_relative: float | None = None
    top1_agreement: float | None = None
    correct: int | None = None
    correct_host: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Differences:
    """The outputs on the device compared with the host's (`predict.compare_outputs`)."""

    ok: bool
    why: str = ""
    bit_identical: bool | None = None
    max_abs: float | None = None
    max_relative: float | None = None
    tolerance: float | None = None
    samples: int | None = None
    top1_agreement: float | None = None
    files: Mapping[str, Any] | None = None

    def problems(self) -> Iterator[str]:
        if self.ok and None in (self.bit_identical, self.max_abs, self.max_relative, self.samples):
            yield "its check is ok, and lacks a difference"


def check_problems(check: Mapping[str, Any]) -> Iterator[str]:
    """The problems with the `check` of a release, one sentence each."""
    try:
        differences = record(Differences, check)
        if differences.files is not None:
            record(Replayed, differences.files)
    except ValueError as error:
        yield f"its check: {error}"


ANSWERS: Mapping[str, type] = {
    "status": Status,
    "place": Placed,
    "check": Checked,
    "switch": Switched,
    "rollback": RolledBack,
}


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
        try:
            error = result.pop("error", None)
            if not isinstance(error, str | None):
                raise ValueError("its error is not a text")
            if not error:
                record(ANSWERS[do], {key: value for key, value in result.items() if key != "schema"})
        except ValueError as wrong:
            raise invalid(self._name, wrong) from wrong
        error = shown(error or "", 300)
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
        if path.stat().st_size > RESULT_BYTES:
            raise ValueError(f"it is larger than {RESULT_BYTES >> 20} MB")
        return json_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise invalid(name, error) from error
