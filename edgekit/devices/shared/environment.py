"""Numpy and a runtime on a device: from its own Python, from pip on the device, or from wheels pushed by this machine.

An environment is a folder of unpacked packages, created once under `~/.cache/edgekit/environments` and identified by
runtime, version, Python and architecture. Nothing is installed into the device's own Python.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from edgekit.core import children, registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, EdgekitError, InputError, NoSpace
from edgekit.core.files import sha256
from edgekit.core.target import Target
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.ssh import Session
from edgekit.devices.shared.untrusted import shown
from edgekit.devices.shared.wheels import verify

#: the oldest Python that the runner supports
OLDEST_PYTHON = (3, 8)
#: time-out of pip in seconds, on the device or on this machine
PIP_SECONDS = 900.0
#: glibc's minor version below which no wheel of this architecture exists (PEP 600)
FIRST_GLIBC = {"aarch64": 17, "armv7l": 17, "x86_64": 5}
#: the name of 32-bit Arm in wheels; the kernel may be a 64-bit one
ARM_32 = "armv7l"
#: the older names of some platform tags, by glibc's minor version
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
#: pip's output if it reaches no index; it then also reports that no matching distribution exists
UNREACHABLE = re.compile(r"after connection broken by|Could not fetch URL|ConnectTimeout|ProxyError")

log = logging.getLogger("edgekit")


@dataclass(frozen=True)
class RuntimeSource:
    """How a device gets a runtime: `own` (its Python has it), `made` (an environment exists), `pip` (installed by pip
    on the device), `wheels` (downloaded on this machine and pushed). `key` is the environment's, `version` the
    runtime's, if known."""

    how: Literal["own", "made", "pip", "wheels"]
    key: str = ""
    version: str = ""


def packages(runtime: str) -> tuple[str, ...]:
    """The distributions that provide a runtime, the newest first: LiteRT's predecessor has the same interpreter."""
    declared = registry.runtime(runtime)
    return (declared.package, *(name.partition("<")[0] for name in declared.older[:1]))


def resolve_runtime(session: Session, target: Target, runtime: str) -> RuntimeSource:
    """How the device would get `runtime`; nothing is installed. Raises DeviceError or InputError if it cannot."""
    facts = session.facts
    _check(facts, target, runtime)
    names = list(dict.fromkeys(["numpy", *packages(runtime)]))
    installed = session.checked(session.call("versions", packages=names))["versions"]
    if version_ := _usable(runtime, target, installed):
        return RuntimeSource("own", version=version_)
    key = environment_key(runtime, target, facts)
    if session.checked(session.call("has", key=key))["has"]:
        versions = session.checked(session.call("versions", packages=names, environment=key))["versions"]
        version_ = next((versions[name] for name in packages(runtime) if versions.get(name)), "")
        return RuntimeSource("made", key, version_)
    return RuntimeSource("pip" if _pip_works(session) else "wheels", key)


def _usable(runtime: str, target: Target, installed: Mapping[str, str | None]) -> str:
    """The version of the runtime among a Python's installed packages, "" if none is usable."""
    accepted = SpecifierSet(target.runtimes.get(runtime, ""))
    if not installed.get("numpy"):
        return ""
    for name in packages(runtime):
        version_ = installed.get(name)
        if not version_ or not accepted.contains(version_, prereleases=True):
            continue
        old = name != registry.runtime(runtime).package
        if not (old and _too_new(str(installed["numpy"]))):
            return version_
    return ""


def _too_new(numpy: str) -> bool:
    """tflite-runtime is built against numpy 1 and cannot create an interpreter with a newer numpy."""
    return int(numpy.partition(".")[0]) >= 2


def check_compatible(session: Session, artifact: Artifact, name: str, runtime: str, environment: str) -> None:
    """Raises InputError if the device's version of the runtime is known not to run the artifact."""
    newest, *older = packages(runtime)
    lacks = registry.runtime(runtime).older_lacks
    if not older or artifact.kind.precision not in lacks:
        return
    if environment not in session.implementations:
        answer = session.call("versions", packages=[newest, *older], environment=environment)
        session.implementations[environment] = session.checked(answer)["versions"]
    versions = session.implementations[environment]
    if versions.get(newest) or not versions.get(older[0]):
        return
    why = f"it has {older[0]} {versions[older[0]]}, which does not support {artifact.kind.precision} models"
    raise InputError(f"{name} cannot run {artifact.name}", why, "use another artifact, such as the float one")


def ready(session: Session, target: Target, runtime: str) -> str:
    """The key of an environment with `runtime`, which is created if needed; "" for the device's own Python.

    Raises DeviceError: no wheel fits its Python, C library or architecture; its disk is full; or pip failed.
    """
    known = f"{runtime} {target.runtimes.get(runtime, '')}"
    if known not in session.environments:
        source = resolve_runtime(session, target, runtime)
        available = source.how in ("own", "made")
        if not available:
            log.info("creating the %s environment on %s (%s)", runtime, target.name, source.how)
        if not available and not (source.how == "pip" and _by_pip(session, target, runtime, source.key)):
            _by_wheels(session, target, runtime, source.key)
        session.environments[known] = source.key
    return session.environments[known]


def _check(facts: Facts, target: Target, runtime: str) -> None:
    if registry.runtime(runtime).needs_edgekit:
        what = f"torch artifacts run where edgekit is installed, not on {target.name}"
        raise InputError(what, next="export them first")
    if target.arch and facts.arch != target.arch:
        why = f"its architecture is {facts.arch}, its target file says {target.arch}"
        next = f"probe it again: edgekit targets add {target.name} --ssh {target.address} --replace"
        raise DeviceError(f"{target.name} does not match its target file", why, next)
    if facts.python and facts.python < OLDEST_PYTHON:
        version_, oldest = (".".join(map(str, v)) for v in (facts.python, OLDEST_PYTHON))
        raise DeviceError(
            f"the Python of {target.name} is too old",
            f"it is {version_}; {oldest} or newer is required",
            "install a newer system on it",
        )
    if facts.bits == 32 and len(packages(runtime)) == 1:
        why = f"its Python is 32-bit on {facts.arch}, and {runtime} has no 32-bit wheels"
        raise DeviceError(f"{target.name} cannot run {runtime}", why, "install a 64-bit system on it")


def environment_key(runtime: str, target: Target, facts: Facts) -> str:
    parts = [*requirements(runtime, target), *map(str, (facts.python or ())[:2]), facts.arch, str(facts.glibc)]
    parts += ["32"] if facts.bits == 32 else []
    return f"{runtime}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


def requirements(runtime: str, target: Target) -> list[str]:
    """pip's first requirements: this machine's version, if the target accepts it, so that both compute the same."""
    package, accepted = registry.runtime(runtime).package, target.runtimes.get(runtime, "")
    if package == "numpy":
        return ["numpy"]
    try:
        local = version(package)
    except PackageNotFoundError:
        return [f"{package}{accepted}", "numpy"]
    if SpecifierSet(accepted).contains(local, prereleases=True):
        return [f"{package}=={local}", "numpy"]
    return [f"{package}{accepted}", "numpy"]


def choices(runtime: str, target: Target, bits: int = 64) -> Iterator[list[str]]:
    """Requirements in order of preference: this machine's version; any version the target accepts (the newest may have
    no wheel for an older Python); the runtime's predecessor with the numpy it needs, the only one for 32-bit Arm."""
    first, accepted = requirements(runtime, target), target.runtimes.get(runtime, "")
    declared = registry.runtime(runtime)
    any_version = [f"{declared.package}{accepted}", "numpy"]
    older = list(declared.older)
    if bits == 64:
        yield first
        if first != any_version and first != ["numpy"]:
            yield any_version
    if older:
        yield [f"{older[0]}{accepted}", *older[1:]]


def _pip_works(session: Session) -> bool:
    """Does the device have pip, and does pip reach an index? Checked once per session."""
    if session.pip is None:
        arguments = ["index", "versions", "numpy", "--timeout", "5", "--retries", "0"]
        session.pip = session.checked(session.call("pip", arguments=arguments, timeout=90, limit=30))["code"] == 0
    return session.pip


def _by_pip(session: Session, target: Target, runtime: str, key: str) -> bool:
    for wanted_packages in choices(runtime, target, session.facts.bits):
        arguments = ["install", "--quiet", "--only-binary=:all:", "--no-compile", *wanted_packages]
        answer = session.call("pip", key=key, arguments=arguments, limit=PIP_SECONDS, timeout=PIP_SECONDS + 60)
        if session.checked(answer)["code"] == 0:
            return True
        log.info("pip on %s: %s", target.name, shown(answer["said"], 4000))
    return False


def _by_wheels(session: Session, target: Target, runtime: str, key: str) -> None:
    """Download wheels for the device's platform on this machine, push them, and unpack them on the device."""
    with temporary_folder() as folder:
        output = ""
        for wanted_packages in choices(runtime, target, session.facts.bits):
            output = download(wanted_packages, session.facts, folder)
            if not output or UNREACHABLE.search(output):
                break
        if output:
            error = no_wheels(target, runtime, session.facts, output)
            days = abs(session.facts.clock - time.time()) / 86_400
            if session.facts.clock and days > 1 and isinstance(error, DeviceError):
                error.why += f"; its clock is off by {days:,.0f} days, so that pip there cannot verify certificates"
                error.next = "set its clock: sudo timedatectl set-ntp true"
            raise error
        wheels = {path.name: sha256(path) for path in sorted(folder.glob("*.whl"))}
        session.send({sha: folder / name for name, sha in wheels.items()})
        size = sum(path.stat().st_size for path in folder.glob("*.whl"))
        session.checked(session.call("unpack", key=key, wheels=wheels, timeout=120 + size / 1e5))


def download(wanted_packages: list[str], facts: Facts, folder: Path) -> str:
    """Download wheels into `folder`; returns "" or pip's output if it failed.

    Raises DeviceError for a wheel that is not the one downloaded before.
    """
    major, minor, _ = facts.python or (3, 0, 0)
    command = [
        sys.executable,
        "-P",  # a pip.py of the working directory is not pip
        "-m",
        "pip",
        "download",
        "--no-input",
        "--progress-bar=off",
        "--disable-pip-version-check",
    ]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", f"{major}.{minor}"]
    command += ["--abi", f"cp{major}{minor}", "--dest", str(folder)]
    command += [word for platform in platforms(facts) for word in ("--platform", platform)]
    try:
        done = children.run([*command, *wanted_packages], text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip took longer than {PIP_SECONDS:.0f} s"
    if done.returncode == 0:
        verify(folder)
        return ""
    return f"{done.stdout}\n{done.stderr}".strip() or f"pip ended with {done.returncode}"


def platforms(facts: Facts) -> list[str]:
    """Every platform tag whose wheels the device can load, the newest first: pip does not infer the older tags."""
    arch = ARM_32 if facts.bits == 32 and facts.arch.startswith(("aarch64", "arm")) else facts.arch
    if facts.glibc is None or arch not in FIRST_GLIBC:
        return []
    tags = []
    for minor in range(facts.glibc[1], FIRST_GLIBC[arch] - 1, -1):
        tags.append(f"manylinux_2_{minor}_{arch}")
        if minor in LEGACY:
            tags.append(f"{LEGACY[minor]}_{arch}")
    return tags


def no_wheels(target: Target, runtime: str, facts: Facts, output: str) -> EdgekitError:
    python = ".".join(map(str, (facts.python or ())[:2]))
    libc = f"glibc {'.'.join(map(str, facts.glibc))}" if facts.glibc else "a C library other than glibc"
    what = f"no {runtime} is available for {target.name}"
    unreachable = UNREACHABLE.search(output)
    if "No space left on device" in output:
        next = "free some space, or name another disk with TMPDIR, then run the same command again"
        return NoSpace("cannot download wheels", "no space left on this machine's disk", next)
    if not unreachable and re.search(r"No matching distribution|Could not find a version", output):
        why = f"there are no wheels for Python {python} on {facts.arch} with {libc}"
        return DeviceError(what, why, "install a newer system on it, or the runtime into its Python")
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    pip = "pip reaches no index" if unreachable else (errors or [output])[-1][:200]
    why = f"neither the device nor this machine could download it: {pip}"
    return DeviceError(what, why, "connect one of them to an index, or install the runtime into the device's Python")
