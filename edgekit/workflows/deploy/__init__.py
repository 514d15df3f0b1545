"""`deploy`: install a bundle on a device, check it there, switch to it, and roll back.

An artifact that the device cannot run is an error before anything is sent. Only missing files are sent. The device
checks the sha256 of every file and runs the bundle's samples; its outputs are compared with the host's; one rename then
makes it the current release. A deployment that fails leaves the current release unchanged.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import tasks
from edgekit.core import registry
from edgekit.core.artifact import Artifact, ModelFacts
from edgekit.core.device import Device
from edgekit.core.errors import CheckFailed, DeviceError, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.target import Target
from edgekit.core.temporary import temporary_folder
from edgekit.core.user_code import typed_by_user
from edgekit.devices.shared.bundle import Bundle
from edgekit.measure import targets
from edgekit.measure.execute import runtimes_for
from edgekit.measure.verify import saturates
from edgekit.runs import references
from edgekit.sets.tables import encoded_like
from edgekit.steps.shared.calibrated import model_file
from edgekit.workflows import import_, setup
from edgekit.workflows.deploy import bundle, replay

if TYPE_CHECKING:
    from edgekit.devices.shared.releases import Releases

#: memory of a process without the model, at least: Python, numpy and a runtime
FLOOR_BYTES = 60_000_000
#: opset → first ONNX Runtime that supports it (its compatibility table); the device itself checks newer opsets
OPSETS = {16: (1, 11), 17: (1, 12), 18: (1, 14), 19: (1, 15), 20: (1, 17), 21: (1, 18)}


@dataclass(frozen=True)
class Deployment:
    """The result of a deployment. `how`: deployed, unchanged (it was already current), rolled back, or written (to a
    folder here).

    `sent_bytes` counts the files sent; `check` is the result of the check on the device.

    Examples:
        >>> deployment = edgekit.deploy("runs/mnist/onnx", "host", path="releases/float")
        >>> deployment.target, deployment.size_bytes > 0
        ('host', True)
    """

    target: str
    how: str
    id: str
    previous: str | None
    at: str
    python: str
    check: Mapping[str, Any]
    sent_bytes: int
    size_bytes: int


@typed_by_user
def deploy(
    word: str | None,
    target_name: str,
    *,
    path: str = "",
    runtime: str = "",
    data: str = "",
    out: Path | None = None,
    say: Callable[[str], None] = setup.silent,
) -> Deployment:
    """Install an artifact on a target and make it the current release there.

    The device replays files of the SET `data` (default: of the artifact's task or calibration) with the bundle's own
    program. Raises InputError if the device cannot run it, DeviceError if the device fails or its outputs differ.
    """
    artifact, samples = _select(word, out)
    target = targets.load(target_name)
    device, releases = _connect(target, path or _default_folder(artifact.path.parent))
    target = _with_device_facts(target, device)
    runtime = _runtime(artifact, target, runtime)
    facts: ModelFacts = registry.load("formats", artifact.kind.format).describe(model_file(artifact))
    if why := next(_incompatibilities(artifact, facts, runtime, target, device), ""):
        raise InputError(f"{target.name} cannot run {artifact.name}", why, "nothing was sent; choose another artifact")
    with temporary_folder() as folder:
        files = replay.choose(artifact, data)
        new = bundle.make(artifact, runtime, samples, targets.load("host"), target, folder, files)
        return _install(new, target, device, releases, say)


def _install(new: Bundle, target: Target, device: Device, releases: Releases, say: Callable[[str], None]) -> Deployment:
    start = device.sent_bytes
    before = releases.status()
    unchanged = before["current"] == new.id
    placement = {"placed": False}
    if not unchanged:
        say(f"  sending   {new.size / 1e6:,.1f} MB to {target.name}, except files that are there")
        placement = dict(releases.place(new))
    check = releases.check(new.id)
    if unchanged and not check["ok"]:  # damaged since: send it again
        placement = dict(releases.place(new))
        check = releases.check(new.id)
    if not check["ok"]:
        what = f"the outputs on {target.name} do not match the host's"
        in_use = "the previous release is still in use" if before["current"] else "the release is not in use"
        raise DeviceError(what, str(check.get("why", "")), f"edgekit targets check {target.name}; {in_use}")
    after = releases.switch(new.id)
    how = "unchanged" if unchanged and not placement["placed"] else "deployed"
    return Deployment(
        target.name,
        how,
        new.id,
        after["previous"],
        after["at"],
        after["python"],
        check,
        device.sent_bytes - start,
        new.size,
    )


def rollback(word: str | None, target_name: str, *, path: str = "", out: Path | None = None) -> Deployment:
    """Make the previous release the current one. Raises InputError if there is none, DeviceError if it is damaged or
    its outputs have changed."""
    target = targets.load(target_name)
    device, releases = _connect(target, path or _default_folder(references.resolve(word, out).store.path))
    status = releases.rollback()
    if not status["check"]["ok"]:
        what = f"cannot roll back on {target.name}"
        next = "the current release is still in use; edgekit deploy the artifact again"
        raise DeviceError(what, str(status["check"].get("why", "")), next)
    current = status["current"]
    return Deployment(
        target.name,
        "rolled back",
        current,
        status["previous"],
        status["at"],
        status["python"],
        status["check"],
        device.sent_bytes,
        0,
    )


def list_releases(word: str | None, target_name: str, *, path: str = "", out: Path | None = None) -> Mapping[str, Any]:
    """The deployed releases: `current` and `previous` (ids or None), `releases`."""
    folder = path or _default_folder(references.resolve(word, out).store.path)
    _, releases = _connect(targets.load(target_name), folder)
    return {"target": target_name, "path": folder, **releases.status()}


@typed_by_user
def write_bundle(
    word: str | None, folder: Path, *, target_name: str = "host", runtime: str = "", data: str = ""
) -> Deployment:
    """Write the bundle to a folder here, to be copied to a device by other means; its own program checks it first.

    Raises CheckFailed if the outputs of that program are not the artifact's.
    """
    artifact, samples = _select(word, None)
    target = targets.load(target_name)
    runtime = _runtime(artifact, target, runtime)
    with temporary_folder() as scratch:
        files = replay.choose(artifact, data)
        new = bundle.make(artifact, runtime, samples, targets.load("host"), target, scratch, files)
        tried = scratch / "tried"
        bundle.write(new, tried)
        check = bundle.check(tried)
        if not check["ok"]:
            what, next = f"the bundle's program does not answer as {artifact.name} does", "nothing was written"
            raise CheckFailed(what, str(check.get("why", "")), f"{next}; edgekit verify checks the artifact")
        bundle.write(new, folder)
        return Deployment(target_name, "written", new.id, None, str(folder), sys.executable, check, 0, new.size)


def _select(word: str | None, out: Path | None) -> tuple[Artifact, SampleSet]:
    """The artifact, and samples to check it with: its task's test split, else random inputs."""
    ref = import_.ensure_imported(references.resolve(word, out))
    artifact = ref.artifact()
    if artifact.kind.format == "torch":
        exported = [a.name for a in ref.store.current() if a.kind.is_model and a.kind.format != "torch"]
        next = f"edgekit deploy {ref.store.path / exported[-1]}" if exported else f"edgekit export {ref.store.path}"
        raise InputError(f"{artifact.name} is a torch artifact", "it runs only where edgekit is installed", next)
    if not artifact.kind.is_model:
        raise InputError(f"{artifact.name} is not a model", next="name a model: edgekit compare lists them")
    if not artifact.task:
        return artifact, setup.random_inputs(ref.store, artifact)
    name = tasks.load(artifact.task).name
    return artifact, ref.store.set(f"{name}:test", encoded_like(artifact.inputs, name))


def _connect(target: Target, folder: str) -> tuple[Device, Releases]:
    device = targets.device(target)
    if device.releases is None:
        why = f"a {target.device} device does not store files"
        raise InputError(f"nothing can be deployed to {target.name}", why, "edgekit targets list")
    if "\0" in folder or not folder.strip():
        raise InputError(f"{folder!r} is not a folder", next="name one with --path")
    releases: Releases = device.releases(folder)
    return device, releases


def _default_folder(run: Path) -> str:
    """A folder with the run's name: all artifacts of a run are for one application, so a new one replaces the last."""
    return "edgekit/" + (re.sub(r"[^A-Za-z0-9._-]+", "-", run.resolve().name).strip(".-") or "model")


def _with_device_facts(target: Target, device: Device) -> Target:
    """The target with the probed facts of the device in place of those of its file; its runtimes are the file's."""
    facts = device.facts()
    memory = int(facts["memory_bytes"]) >> 20 or target.memory_mb
    return dataclasses.replace(target, isa=tuple(facts["isa"]), arch=str(facts["arch"]), memory_mb=memory)


def _runtime(artifact: Artifact, target: Target, requested: str) -> str:
    possible = runtimes_for(artifact, target)
    if requested and requested not in possible:
        known = ", ".join(possible) or "none"
        what = f"{requested} does not run {artifact.kind} on {target.name}"
        raise InputError(what, f"the runtimes that do are {known}", "choose another --runtime or artifact")
    if not possible:
        why = f"it has {', '.join(target.runtimes) or 'no runtime'}, and {artifact.name} is {artifact.kind}"
        raise InputError(f"{target.name} cannot run {artifact.name}", why, "export it to another format")
    return requested or possible[0]


def _incompatibilities(
    artifact: Artifact, facts: ModelFacts, runtime: str, target: Target, device: Device
) -> Iterator[str]:
    """Why the device cannot run it, a sentence each; nothing is sent."""
    declared = targets.load(target.name)
    absent = sorted(set(declared.isa) - set(target.isa))
    if absent:
        yield f"its target file lists {', '.join(absent)}, which it does not have: run edgekit targets add again"
    made_for = artifact.name.rpartition("@")[2] if "@" in artifact.name else ""
    if made_for and made_for != target.isa_class:
        yield f"it was made for {made_for}, and the device is {target.isa_class}"
    if saturates(artifact, target):
        yield f"without VNNI its sums saturate ({artifact.scheme}): quantize it with --target {target.name}"
    needed = FLOOR_BYTES + facts.sizes.total + (facts.peak_bytes or 0)
    if target.memory_mb and needed > target.memory_mb << 20:
        yield f"it needs about {needed / 1e6:,.0f} MB of memory, and there are {target.memory_mb * 1.048576:,.0f} MB"
    yield from _opset_problem(facts, runtime, _installed_version(device, runtime))
    yield from device.incompatibilities(artifact, runtime)


def _installed_version(device: Device, runtime: str) -> str:
    """The version of the runtime in the device's own Python, "" if it is unknown."""
    packages = device.facts().get("packages") or {}
    return str(packages.get(registry.runtime(runtime).package, ""))


def _opset_problem(facts: ModelFacts, runtime: str, installed: str) -> Iterator[str]:
    opset = facts.details.get("opset", {}).get("ai.onnx", 0) if runtime == "onnxruntime" else 0
    version = re.match(r"(\d+)\.(\d+)", installed)
    if version and opset in OPSETS and (int(version[1]), int(version[2])) < OPSETS[opset]:
        minimum = ".".join(map(str, OPSETS[opset]))
        yield f"it has onnxruntime {installed}, and opset {opset} needs {minimum} or newer"
