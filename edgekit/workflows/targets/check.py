"""`targets check`: can a target be measured on? One result for each known obstacle, with the next command."""

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
from edgekit.devices.shared import native
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
#: largest error of a device's clock with which certificates and logs are still valid
MAX_CLOCK_ERROR_SECONDS = 86_400
#: degrees Celsius at which small boards begin to throttle (a Raspberry Pi's soft limit is 60 to 80, by model)
HOT = 75.0
#: the Raspberry Pi firmware's current throttling flags, by bit
THROTTLED = ("undervoltage", "the clock is capped", "throttled", "at the soft temperature limit")
#: `how` of a runtime's source → its description
SOURCES = {
    "own": "in the device's own Python",
    "made": "in an environment on the device",
    "pip": "pip on the device will install it",
    "wheels": "wheels will be downloaded here and pushed",
}


@dataclass(frozen=True)
class Check:
    """`what` was checked and what was `found`; `next` is the next command, "" if none is needed."""

    what: str
    state: Literal["ok", "warning", "failed"]
    found: str
    next: str = ""


def check(target: Target) -> Iterator[Check]:
    """Check a target; this connects to the device and changes nothing there.

    Raises InputError for an unknown kind of device.
    """
    from edgekit.devices.adb import Adb
    from edgekit.devices.qemu import Qemu
    from edgekit.devices.ssh import Ssh

    device = targets.device(target)
    if isinstance(device, (Ssh, Adb, Qemu)):
        yield from _check_remote(target, device)
    else:
        yield Check("reached", "ok", f"{device.facts()['cpu']}: nothing to connect to")
        if device.here:
            yield from (_installed(target, name) for name in target.runtimes if registry.runtime(name).computes)


def _check_remote(target: Target, device: Ssh | Adb | Qemu) -> Iterator[Check]:
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
        yield from (each for each in check_facts(target, facts, time.time()) if each.what not in unneeded)
        yield from _native_runner(inside.target, facts)
    else:
        yield Check("reached", "ok", f"{where}; its host key is known")
        yield from check_facts(target, facts, time.time())
        if facts.python is not None:
            yield from _environments(target, inside.session)


def _environments(target: Target, session: Session) -> Iterator[Check]:
    for name in target.runtimes:
        with session.busy:
            try:
                source = resolve_runtime(session, target, name)
            except EdgekitError as error:
                yield Check(name, "failed", str(error), error.next)
                continue
        description = SOURCES[source.how]
        yield Check(name, "ok", f"{source.version} ({description})" if source.version else description)


def _native_runner(target: Target, facts: Facts) -> Iterator[Check]:
    """The native runner and the runtime libraries for a device without Python."""
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


def check_facts(target: Target, facts: Facts, now: float) -> Iterator[Check]:
    """The checks that need only the probed facts; `now` is this machine's clock in seconds."""
    if target.arch and target.arch != facts.arch:
        next = f"edgekit targets add {target.name} --{target.device} {target.address} --replace"
        yield Check("machine", "failed", f"it is {facts.arch}; the target file says {target.arch}", next)
    else:
        board = f"{facts.model}, " if facts.model else ""
        yield Check(
            "machine", "ok", f"{board}{facts.cpu}, {facts.arch}, {facts.cores} cores, {facts.memory_bytes >> 20:,} MB"
        )
    yield _python(facts)
    yield _libc(facts)
    yield _disk(target, facts)
    off = facts.clock - now
    if abs(off) > MAX_CLOCK_ERROR_SECONDS:
        phone = facts.os.startswith("Android")
        found = f"it is off by {abs(off) / 86_400:,.0f} days" + (
            "" if phone else ": pip there cannot verify certificates"
        )
        next = "sudo timedatectl set-ntp true, or set it: sudo date -s @$(date +%s)"
        yield Check("clock", "warning", found, "set the phone to network time" if phone else next)
    else:
        yield Check("clock", "ok", "correct to a day")
    yield _heat(facts)
    if facts.governor and facts.governor != "performance":
        next = "for stable latencies: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Check("governor", "warning", facts.governor, next)


def _python(facts: Facts) -> Check:
    if facts.python is None:
        return Check("Python", "failed", "there is none", "install it there (Debian: sudo apt install python3)")
    version = ".".join(map(str, facts.python))
    if facts.python < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Check("Python", "failed", f"{version} is older than {oldest}", "install a newer system there")
    if facts.bits == 32:
        next = "only LiteRT's predecessor has 32-bit wheels: install a 64-bit system for the other runtimes"
        return Check("Python", "warning", f"{version} is a 32-bit build", next)
    return Check("Python", "ok", version)


def _libc(facts: Facts) -> Check:
    if facts.glibc is None:
        next = "install numpy and the runtimes in the device's own Python"
        return Check("C library", "warning", "not glibc: wheels cannot be pushed", next)
    return Check("C library", "ok", f"glibc {facts.glibc[0]}.{facts.glibc[1]}")


def _disk(target: Target, facts: Facts) -> Check:
    if facts.free_bytes is None:
        return Check("disk", "warning", "the free space is unknown")
    found = f"{facts.free_bytes / 1e6:,.0f} MB free"
    if facts.free_bytes < LITTLE_BYTES:
        return Check("disk", "warning", found, f"free some space: edgekit targets clean {target.name}")
    return Check("disk", "ok", found)


def _heat(facts: Facts) -> Check:
    now = [words for bit, words in enumerate(THROTTLED) if facts.throttled >> bit & 1]
    if now:
        next = "use a stronger power supply (undervoltage), or a heat sink or a fan (temperature)"
        return Check("temperature", "warning", ", ".join(now), next)
    if facts.temperature is None:
        return Check("temperature", "ok", "unknown: there is no sensor")
    if facts.temperature >= HOT:
        return Check("temperature", "warning", f"{facts.temperature:.0f} °C", "let it cool down, or add a fan")
    return Check("temperature", "ok", f"{facts.temperature:.0f} °C")


def _installed(target: Target, runtime: str) -> Check:
    package, versions = registry.runtime(runtime).package, target.runtimes[runtime]
    next = f"pip install '{package}{versions}'"
    try:
        installed = version(package)
    except PackageNotFoundError:
        return Check(runtime, "warning", f"{package} is not installed", next)
    fits = SpecifierSet(versions).contains(installed, prereleases=True)
    return Check(runtime, "ok" if fits else "warning", installed, "" if fits else next)
