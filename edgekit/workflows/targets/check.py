"""Is a target fit to be measured on? One line for each thing that has kept somebody from it, with what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal

from packaging.specifiers import SpecifierSet

from edgekit.core import registry
from edgekit.core.errors import EdgekitError, Missing
from edgekit.core.target import Target
from edgekit.devices.shared.environment import OLDEST_PYTHON, resolve_runtime
from edgekit.devices.shared.facts import Facts
from edgekit.measure import targets

if TYPE_CHECKING:
    from edgekit.devices.adb import Adb
    from edgekit.devices.qemu import Qemu
    from edgekit.devices.shared.ssh import Session
    from edgekit.devices.ssh import Ssh

#: room for two runtimes' packages and some data
LITTLE_BYTES = 500_000_000
#: how far a device's clock may be off before certificates and logs make no sense
WRONG_CLOCK_SECONDS = 86_400
#: degrees at which small boards begin to slow down (a Raspberry Pi's soft limit is 60 to 80, by model)
HOT = 75.0
#: the Raspberry Pi firmware's flags for now, by bit
THROTTLED = ("the voltage is low", "the clock is capped", "it is slowed down", "it is at its soft limit of temperature")
HOW = {
    "own": "its own Python has it",
    "made": "made there already",
    "pip": "pip there will fetch it",
    "wheels": "wheels will be fetched here and pushed",
}


@dataclass(frozen=True)
class Check:
    """`what` was looked at and what was `found`; `next` says what to do, "" where nothing is."""

    what: str
    state: Literal["ok", "warning", "failed"]
    found: str
    next: str = ""


def check(target: Target) -> Iterator[Check]:
    """What can be told of a target; a device is connected to, and nothing is changed there.

    Raises InputError where its kind of device cannot be reached at all.
    """
    from edgekit.devices.adb import Adb
    from edgekit.devices.qemu import Qemu
    from edgekit.devices.ssh import Ssh

    device = targets.device(target)
    if isinstance(device, (Ssh, Adb, Qemu)):
        yield from _elsewhere(target, device)
    else:
        yield Check("reached", "ok", f"{device.facts()['cpu']}: nothing to connect to")
        if device.here:
            yield from (_installed(target, name) for name in target.runtimes if registry.runtime(name).computes)


def _elsewhere(target: Target, device: Ssh | Adb | Qemu) -> Iterator[Check]:
    from edgekit.devices.adb import Adb
    from edgekit.devices.qemu import Qemu

    started = time.monotonic()
    try:
        facts = device.machine
    except Missing:
        raise
    except EdgekitError as error:
        yield Check("reached", "failed", str(error), error.next)
        return
    inside = device.inside if isinstance(device, Qemu) else device
    where = f"{target.address or 'started'}, in {time.monotonic() - started:.1f} s"
    if isinstance(inside, Adb):
        yield Check("reached", "ok", where)
        unneeded = ("Python", "C library")
        yield from (check for check in judged(target, facts, time.time()) if check.what not in unneeded)
        yield from _pushed(inside.target, facts)
    else:
        yield Check("reached", "ok", f"{where}; its host key is known")
        yield from judged(target, facts, time.time())
        if facts.python is not None:
            yield from _environments(target, inside.session)


def _environments(target: Target, session: Session) -> Iterator[Check]:
    for name in target.runtimes:
        with session.busy:
            try:
                found = resolve_runtime(session, target, name)
            except EdgekitError as error:
                yield Check(name, "failed", str(error), error.next)
                continue
        yield Check(name, "ok", f"{found.version} ({HOW[found.how]})" if found.version else HOW[found.how])


def _pushed(target: Target, facts: Facts) -> Iterator[Check]:
    """What a device without Python is given."""
    from edgekit.devices.shared import native

    try:
        native.runner(facts)
        yield Check("runner", "ok", f"built for {facts.arch}")
    except EdgekitError as error:
        yield Check("runner", "failed", str(error), error.next)
    for name in target.runtimes:
        try:
            path = native.library(target, facts, name)
        except EdgekitError as error:
            yield Check(name, "failed", str(error), error.next)
            continue
        own = target.libraries.get(name)
        yield Check(name, "ok", f"{path} will be pushed" if own else "the library of its wheel will be pushed")


def judged(target: Target, facts: Facts, now: float) -> Iterator[Check]:
    """What the facts alone tell."""
    if target.arch and target.arch != facts.arch:
        next = f"edgekit targets add {target.name} --{target.device} {target.address} --replace"
        yield Check("machine", "failed", f"it is {facts.arch}; the target says {target.arch}", next)
    else:
        board = f"{facts.model}, " if facts.model else ""
        yield Check(
            "machine", "ok", f"{board}{facts.cpu}, {facts.arch}, {facts.cores} cores, {facts.memory_bytes >> 20:,} MB"
        )
    yield _python(facts)
    yield _libc(facts)
    yield _disk(target, facts)
    off = facts.clock - now
    if abs(off) > WRONG_CLOCK_SECONDS:
        phone = facts.os.startswith("Android")
        found = f"it is off by {abs(off) / 86_400:,.0f} days" + (
            "" if phone else ": pip there cannot check certificates"
        )
        next = "sudo timedatectl set-ntp true, or set it: sudo date -s @$(date +%s)"
        yield Check("clock", "warning", found, "let it take its time from the network" if phone else next)
    else:
        yield Check("clock", "ok", "right to a day")
    yield _heat(facts)
    if facts.governor and facts.governor != "performance":
        next = "for steadier times: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Check("governor", "warning", facts.governor, next)


def _python(facts: Facts) -> Check:
    if facts.python is None:
        return Check("Python", "failed", "there is none", "install it there (Debian: sudo apt install python3)")
    said = ".".join(map(str, facts.python))
    if facts.python < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Check("Python", "failed", f"{said} is older than {oldest}", "install a newer system there")
    if facts.bits == 32:
        next = "only LiteRT's predecessor has wheels for it: install the 64-bit system there for the others"
        return Check("Python", "warning", f"{said} is a 32-bit one", next)
    return Check("Python", "ok", said)


def _libc(facts: Facts) -> Check:
    if facts.glibc is None:
        next = "install numpy and the runtimes into its own Python"
        return Check("C library", "warning", "not glibc: no wheels can be pushed", next)
    return Check("C library", "ok", f"glibc {facts.glibc[0]}.{facts.glibc[1]}")


def _disk(target: Target, facts: Facts) -> Check:
    if facts.free_bytes is None:
        return Check("disk", "warning", "it does not tell how much is free")
    found = f"{facts.free_bytes / 1e6:,.0f} MB free"
    if facts.free_bytes < LITTLE_BYTES:
        return Check("disk", "warning", found, f"free some space: edgekit targets clean {target.name}")
    return Check("disk", "ok", found)


def _heat(facts: Facts) -> Check:
    now = [words for bit, words in enumerate(THROTTLED) if facts.throttled >> bit & 1]
    if now:
        next = "a stronger power supply where the voltage is low; a heat sink or a fan where it is hot"
        return Check("temperature", "warning", ", ".join(now), next)
    if facts.temperature is None:
        return Check("temperature", "ok", "it does not tell")
    if facts.temperature >= HOT:
        return Check("temperature", "warning", f"{facts.temperature:.0f} °C", "let it cool down, or give it a fan")
    return Check("temperature", "ok", f"{facts.temperature:.0f} °C")


def _installed(target: Target, runtime: str) -> Check:
    package, wanted = registry.runtime(runtime).package, target.runtimes[runtime]
    try:
        found = version(package)
    except PackageNotFoundError:
        return Check(runtime, "warning", f"{package} is not installed", f"pip install '{package}{wanted}'")
    fits = SpecifierSet(wanted).contains(found, prereleases=True)
    return Check(runtime, "ok" if fits else "warning", found, "" if fits else f"pip install '{package}{wanted}'")
