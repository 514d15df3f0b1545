"""`edgekit deploy`: a bundle on a device, checked there before it is used, and back again.

What a device cannot run is refused before anything is sent. Then: only what is missing is sent, every file's sha256 is
checked there, the bundle runs its own samples there, its answers are compared with the host's, and one rename makes it
the current release. A deployment that fails on the way leaves the current one as it was.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import sets, tasks
from edgekit.core import registry
from edgekit.core.artifact import Artifact, ModelFacts
from edgekit.core.device import Device
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.target import Target
from edgekit.devices.shared.bundle import Bundle
from edgekit.measure import targets
from edgekit.measure.execute import runtimes_for
from edgekit.measure.verify import saturates
from edgekit.runs import references
from edgekit.steps.shared.calibrated import model_file
from edgekit.workflows import import_, setup
from edgekit.workflows.deploy import bundle

if TYPE_CHECKING:
    from edgekit.devices.shared.releases import Releases

#: what a process needs beside the model, at the least: Python, numpy and a runtime
FLOOR_BYTES = 60_000_000
#: from which ONNX Runtime on an operator set is known (its compatibility table); newer ones are left to the check there
OPSETS = {16: (1, 11), 17: (1, 12), 18: (1, 14), 19: (1, 15), 20: (1, 17), 21: (1, 18)}


@dataclass(frozen=True)
class Deployed:
    """`how`: deployed, unchanged (it was the current one already), rolled back, or written (a folder here).

    `sent_bytes` counts the files sent; `check` is what the device said of its own answers.
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


def deploy(
    word: str | None,
    target_name: str,
    *,
    path: str = "",
    runtime: str = "",
    out: Path | None = None,
    say: Callable[[str], None] = setup.silent,
) -> Deployed:
    """Put an artifact on a target and make it the current release there.

    Raises InputError where the device cannot run it, DeviceError where it failed on the way or its answers differ.
    """
    artifact, samples = _chosen(word, out)
    target = targets.load(target_name)
    device, releases = _reached(target, path or _place(artifact.path.parent))
    target = _as_it_is(target, device)
    runtime = _runtime(artifact, target, runtime)
    facts: ModelFacts = registry.load("formats", artifact.kind.format).describe(model_file(artifact))
    if why := next(_against(artifact, facts, runtime, target, device), ""):
        raise InputError(f"{target.name} cannot run {artifact.name}", why, "nothing was sent; choose another artifact")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        made = bundle.make(artifact, runtime, samples, targets.load("host"), target, Path(folder))
        return _placed(made, target, device, releases, say)


def _placed(made: Bundle, target: Target, device: Device, releases: Releases, say: Callable[[str], None]) -> Deployed:
    start = device.sent_bytes
    before = releases.status()
    unchanged = before["current"] == made.id
    found = {"placed": False}
    if not unchanged:
        say(f"  sending   {made.size / 1e6:,.1f} MB to {target.name}, less what is there")
        found = dict(releases.place(made))
    check = releases.check(made.id)
    if unchanged and not check["ok"]:  # damaged since: put it there anew
        found = dict(releases.place(made))
        check = releases.check(made.id)
    if not check["ok"]:
        what = f"{target.name} answers otherwise than the host"
        kept = "what it had before is still in use" if before["current"] else "it is not in use"
        raise DeviceError(what, str(check.get("why", "")), f"edgekit targets check {target.name}; {kept}")
    after = releases.switch(made.id)
    how = "unchanged" if unchanged and not found["placed"] else "deployed"
    return Deployed(
        target.name,
        how,
        made.id,
        after["previous"],
        after["at"],
        after["python"],
        check,
        device.sent_bytes - start,
        made.size,
    )


def rollback(word: str | None, target_name: str, *, path: str = "", out: Path | None = None) -> Deployed:
    """Make the release before the current one again. Raises InputError where there is none, DeviceError where it is
    no longer whole, or answers otherwise than it did."""
    target = targets.load(target_name)
    device, releases = _reached(target, path or _place(references.resolve(word, out).store.path))
    found = releases.rollback()
    if not found["check"]["ok"]:
        what = f"cannot roll back on {target.name}"
        raise DeviceError(what, str(found["check"].get("why", "")), "the current release is still in use; deploy anew")
    current = found["current"]
    return Deployed(
        target.name,
        "rolled back",
        current,
        found["previous"],
        found["at"],
        found["python"],
        found["check"],
        device.sent_bytes,
        0,
    )


def listed(word: str | None, target_name: str, *, path: str = "", out: Path | None = None) -> Mapping[str, Any]:
    """What is deployed: `current` and `previous` (ids or None), `releases`."""
    folder = path or _place(references.resolve(word, out).store.path)
    _, releases = _reached(targets.load(target_name), folder)
    return {"target": target_name, "path": folder, **releases.status()}


def written(word: str | None, folder: Path, *, target_name: str = "host", runtime: str = "") -> Deployed:
    """The bundle as a folder here, for whatever way it is to go."""
    artifact, samples = _chosen(word, None)
    target = targets.load(target_name)
    runtime = _runtime(artifact, target, runtime)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        made = bundle.make(artifact, runtime, samples, targets.load("host"), target, Path(scratch))
        bundle.write(made, folder)
        return Deployed(target_name, "written", made.id, None, str(folder), "", {}, 0, made.size)


def _chosen(word: str | None, out: Path | None) -> tuple[Artifact, SampleSet]:
    """The artifact, and samples to check it with: of its task's test split, else random ones."""
    ref = import_.stored(references.resolve(word, out))
    artifact = ref.artifact()
    if artifact.kind.format == "torch":
        exported = [a.name for a in ref.store.current() if a.kind.is_model and a.kind.format != "torch"]
        next = f"edgekit deploy {ref.store.path / exported[-1]}" if exported else f"edgekit export {ref.store.path}"
        raise InputError(f"{artifact.name} is a torch artifact", "it runs only where edgekit is installed", next)
    if not artifact.kind.is_model:
        raise InputError(f"{artifact.name} is no model", next="name one: edgekit compare shows them")
    if not artifact.task:
        return artifact, sets.random_inputs(artifact, ref.store.root(artifact))
    return artifact, ref.store.set(f"{tasks.load(artifact.task).name}:test")


def _reached(target: Target, folder: str) -> tuple[Device, Releases]:
    device = targets.device(target)
    if device.releases is None:
        raise InputError(f"nothing can be deployed to {target.name}", f"a {target.device} device keeps nothing")
    if "\0" in folder or not folder.strip():
        raise InputError(f"{folder!r} is no folder", next="name one with --path")
    releases: Releases = device.releases(folder)
    return device, releases


def _place(run: Path) -> str:
    """A folder called as the run, whose artifacts are all for one application: a new one replaces the one before."""
    return "edgekit/" + (re.sub(r"[^A-Za-z0-9._-]+", "-", run.resolve().name).strip(".-") or "model")


def _as_it_is(target: Target, device: Device) -> Target:
    """The target with what the device says of itself in place of what its file does, and the file's runtimes."""
    facts = device.facts()
    memory = int(facts["memory_bytes"]) >> 20 or target.memory_mb
    return dataclasses.replace(target, isa=tuple(facts["isa"]), arch=str(facts["arch"]), memory_mb=memory)


def _runtime(artifact: Artifact, target: Target, wanted: str) -> str:
    possible = runtimes_for(artifact, target)
    if wanted and wanted not in possible:
        known = ", ".join(possible) or "none"
        raise InputError(f"{wanted} does not run {artifact.kind} on {target.name}", f"what does: {known}")
    if not possible:
        why = f"it has {', '.join(target.runtimes) or 'no runtime'}, and {artifact.name} is {artifact.kind}"
        raise InputError(f"{target.name} cannot run {artifact.name}", why, "export it to another format")
    return wanted or possible[0]


def _against(artifact: Artifact, facts: ModelFacts, runtime: str, target: Target, device: Device) -> Iterator[str]:
    """Why the device cannot run it, a sentence each; asked without sending anything."""
    declared = targets.load(target.name)
    absent = sorted(set(declared.isa) - set(target.isa))
    if absent:
        yield f"its target says that it has {', '.join(absent)}, and it has not: read it anew with targets add"
    made_for = artifact.name.rpartition("@")[2] if "@" in artifact.name else ""
    if made_for and made_for != target.isa_class:
        yield f"it was made for {made_for}, and this is {target.isa_class}"
    if saturates(artifact, target):
        yield f"without VNNI its sums saturate ({artifact.scheme}): quantize it with --target {target.name}"
    needed = FLOOR_BYTES + facts.sizes.total + (facts.peak_bytes or 0)
    if target.memory_mb and needed > target.memory_mb << 20:
        yield f"it needs about {needed / 1e6:,.0f} MB of memory, and there are {target.memory_mb * 1.048576:,.0f}"
    yield from _version(facts, runtime, str(_there(device, runtime)))
    yield from device.incompatibilities(artifact, runtime)


def _there(device: Device, runtime: str) -> str:
    """The version of the runtime that the device's own Python has, "" where that is not known."""
    packages = device.facts().get("packages") or {}
    return str(packages.get(registry.runtime(runtime).package, ""))


def _version(facts: ModelFacts, runtime: str, there: str) -> Iterator[str]:
    opset = facts.details.get("opset", {}).get("ai.onnx", 0) if runtime == "onnxruntime" else 0
    found = re.match(r"(\d+)\.(\d+)", there)
    if found and opset in OPSETS and (int(found[1]), int(found[2])) < OPSETS[opset]:
        needs = ".".join(map(str, OPSETS[opset]))
        yield f"it has onnxruntime {there}, and operator set {opset} needs {needs} or newer"
