"""Numpy and a runtime on a device: what its Python has, what pip there fetches, or wheels pushed from this machine.

An environment is a plain folder of unpacked packages, made once under `~/.cache/edgekit/environments` and found again
by runtime, version, Python and architecture. Nothing is installed into the device's own Python.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import sha256
from edgekit.core.target import Target
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.ssh import Session

#: the oldest Python that the runner keeps to
OLDEST_PYTHON = (3, 8)
#: seconds that pip may take, there or here
PIP_SECONDS = 900.0
#: glibc's minor version below which no wheel of this architecture was ever built (PEP 600), and the older names
FIRST_GLIBC = {"aarch64": 17, "armv7l": 17, "x86_64": 5}
#: what 32-bit Arm is called in wheels; the kernel below may well be a 64-bit one
ARM_32 = "armv7l"
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
#: what pip prints where it reaches no index; without one it then says that there is no such package
UNREACHED = re.compile(r"after connection broken by|Could not fetch URL|ConnectTimeout|ProxyError")

log = logging.getLogger("edgekit")


@dataclass(frozen=True)
class Way:
    """How a runtime comes to be on a device: `own` (its Python has it), `made` (an environment is there), `pip`
    (fetched there), `wheels` (fetched here, and pushed). `versions` are those that are known before."""

    how: Literal["own", "made", "pip", "wheels"]
    key: str = ""
    version: str = ""


def packages(runtime: str) -> tuple[str, ...]:
    """The distributions that bring a runtime, the newest first: LiteRT's predecessor has the same interpreter."""
    declared = registry.runtime(runtime)
    return (declared.package, *(name.partition("<")[0] for name in declared.older[:1]))


def way(session: Session, target: Target, runtime: str) -> Way:
    """How `runtime` would come to be there; nothing is made. Raises DeviceError or InputError where it cannot be."""
    facts = session.facts
    _check(facts, target, runtime)
    names = list(dict.fromkeys(["numpy", *packages(runtime)]))
    found = session.checked(session.call("versions", packages=names))["versions"]
    if version_ := _usable(runtime, target, found):
        return Way("own", version=version_)
    key = environment_key(runtime, target, facts)
    if session.checked(session.call("has", key=key))["has"]:
        there = session.checked(session.call("versions", packages=names, environment=key))["versions"]
        return Way("made", key, next((there[name] for name in packages(runtime) if there.get(name)), ""))
    return Way("pip" if _pip_works(session) else "wheels", key)


def _usable(runtime: str, target: Target, found: Mapping[str, str | None]) -> str:
    """The version of the runtime among what a Python has, "" where it cannot be used as it is."""
    wanted = SpecifierSet(target.runtimes.get(runtime, ""))
    if not found.get("numpy"):
        return ""
    for name in packages(runtime):
        version_ = found.get(name)
        old = name != registry.runtime(runtime).package
        if version_ and wanted.contains(version_, prereleases=True) and not (old and _too_new(str(found["numpy"]))):
            return version_
    return ""


def _too_new(numpy: str) -> bool:
    """tflite-runtime was built against numpy 1 and cannot make an interpreter beside a newer one."""
    return int(numpy.partition(".")[0]) >= 2


def refuse(session: Session, artifact: Artifact, name: str, runtime: str, environment: str) -> None:
    """Raises InputError where the version of the runtime that is there is known not to run such an artifact."""
    newest, *older = packages(runtime)
    lacks = registry.runtime(runtime).older_lacks
    if not older or artifact.kind.precision not in lacks:
        return
    if environment not in session.implementations:
        asked = session.call("versions", packages=[newest, *older], environment=environment)
        session.implementations[environment] = session.checked(asked)["versions"]
    found = session.implementations[environment]
    if found.get(newest) or not found.get(older[0]):
        return
    why = f"it has {older[0]} {found[older[0]]}, which does not run {artifact.kind.precision} models"
    raise InputError(f"{name} cannot run {artifact.name}", why, "use another artifact there, such as the float one")


def ready(session: Session, target: Target, runtime: str) -> str:
    """The key of an environment with `runtime`, made where it is not there yet; "" for the device's own Python.

    Raises DeviceError: no wheel fits its Python, C library or architecture, its disk is full, or pip failed.
    """
    known = f"{runtime} {target.runtimes.get(runtime, '')}"
    if known not in session.environments:
        found = way(session, target, runtime)
        made = found.how in ("own", "made")
        if not made:
            log.info("making the %s environment on %s (%s)", runtime, target.name, found.how)
        if not made and not (found.how == "pip" and _by_pip(session, target, runtime, found.key)):
            _by_wheels(session, target, runtime, found.key)
        session.environments[known] = found.key
    return session.environments[known]


def _check(facts: Facts, target: Target, runtime: str) -> None:
    if registry.runtime(runtime).needs_edgekit:
        raise InputError(f"torch artifacts run where edgekit is installed, not on {target.name}", next="export them")
    if target.arch and facts.arch != target.arch:
        why = f"it is {facts.arch}, its target file says {target.arch}"
        next = f"read it anew: edgekit targets add {target.name} --ssh {target.address} --replace"
        raise DeviceError(f"{target.name} is another machine than its target says", why, next)
    if facts.python and facts.python < OLDEST_PYTHON:
        there, oldest = (".".join(map(str, v)) for v in (facts.python, OLDEST_PYTHON))
        raise DeviceError(
            f"the Python of {target.name} is too old", f"it is {there}, not {oldest}", "install a newer system there"
        )
    if facts.bits == 32 and len(packages(runtime)) == 1:
        why = f"its Python is a 32-bit one on {facts.arch}, and {runtime} has no 32-bit wheels"
        raise DeviceError(f"{target.name} cannot run {runtime}", why, "install the 64-bit system there")


def environment_key(runtime: str, target: Target, facts: Facts) -> str:
    parts = [*requirements(runtime, target), *map(str, (facts.python or ())[:2]), facts.arch, str(facts.glibc)]
    parts += ["32"] if facts.bits == 32 else []
    return f"{runtime}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


def requirements(runtime: str, target: Target) -> list[str]:
    """What to ask pip for first: the version this machine has, so that both answer alike, where the target takes it."""
    package, wanted = registry.runtime(runtime).package, target.runtimes.get(runtime, "")
    if package == "numpy":
        return ["numpy"]
    try:
        here = version(package)
    except PackageNotFoundError:
        return [f"{package}{wanted}", "numpy"]
    if SpecifierSet(wanted).contains(here, prereleases=True):
        return [f"{package}=={here}", "numpy"]
    return [f"{package}{wanted}", "numpy"]


def choices(runtime: str, target: Target, bits: int = 64) -> Iterator[list[str]]:
    """The version that is here; else any the target takes (an older Python there may have no wheel of the newest);
    else the runtime's predecessor with the numpy it needs, which alone has wheels for 32-bit Arm."""
    first, wanted = requirements(runtime, target), target.runtimes.get(runtime, "")
    declared = registry.runtime(runtime)
    any_version = [f"{declared.package}{wanted}", "numpy"]
    older = list(declared.older)
    if bits == 64:
        yield first
        if first != any_version and first != ["numpy"]:
            yield any_version
    if older:
        yield [f"{older[0]}{wanted}", *older[1:]]


def _pip_works(session: Session) -> bool:
    """Has the device pip, and does pip there reach an index? Asked once."""
    if session.pip is None:
        asked = ["index", "versions", "numpy", "--timeout", "5", "--retries", "0"]
        session.pip = session.checked(session.call("pip", arguments=asked, timeout=90, limit=30))["code"] == 0
    return session.pip


def _by_pip(session: Session, target: Target, runtime: str, key: str) -> bool:
    for wanted in choices(runtime, target, session.facts.bits):
        arguments = ["install", "--quiet", "--only-binary=:all:", "--no-compile", *wanted]
        answer = session.call("pip", key=key, arguments=arguments, limit=PIP_SECONDS, timeout=PIP_SECONDS + 60)
        if session.checked(answer)["code"] == 0:
            return True
        log.info("pip on %s: %s", target.name, answer["said"].strip())
    return False


def _by_wheels(session: Session, target: Target, runtime: str, key: str) -> None:
    """Fetch wheels for the device's platform here, push them, unpack them there."""
    with tempfile.TemporaryDirectory(prefix="edgekit-wheels-") as folder:
        said = ""
        for wanted in choices(runtime, target, session.facts.bits):
            said = download(wanted, session.facts, Path(folder))
            if not said or UNREACHED.search(said):
                break
        if said:
            raise no_wheels(target, runtime, session.facts, said)
        wheels = {path.name: sha256(path) for path in sorted(Path(folder).glob("*.whl"))}
        session.send({sha: Path(folder) / name for name, sha in wheels.items()})
        size = sum(path.stat().st_size for path in Path(folder).glob("*.whl"))
        session.checked(session.call("unpack", key=key, wheels=wheels, timeout=120 + size / 1e5))


def download(wanted: list[str], facts: Facts, folder: Path) -> str:
    """What pip said where it found no wheels; "" where it did."""
    major, minor, _ = facts.python or (3, 0, 0)
    command = [
        sys.executable,
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
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip took longer than {PIP_SECONDS:.0f} s"
    return (
        "" if done.returncode == 0 else f"{done.stdout}\n{done.stderr}".strip() or f"pip ended with {done.returncode}"
    )


def platforms(facts: Facts) -> list[str]:
    """Every platform tag whose wheels the device can load, the newest first: pip does not infer the lower ones."""
    arch = ARM_32 if facts.bits == 32 and facts.arch.startswith(("aarch64", "arm")) else facts.arch
    if facts.glibc is None or arch not in FIRST_GLIBC:
        return []
    found = []
    for minor in range(facts.glibc[1], FIRST_GLIBC[arch] - 1, -1):
        found.append(f"manylinux_2_{minor}_{arch}")
        if minor in LEGACY:
            found.append(f"{LEGACY[minor]}_{arch}")
    return found


def no_wheels(target: Target, runtime: str, facts: Facts, said: str) -> DeviceError:
    python = ".".join(map(str, (facts.python or ())[:2]))
    libc = f"glibc {'.'.join(map(str, facts.glibc))}" if facts.glibc else "a C library other than glibc"
    what = f"no {runtime} to be had for {target.name}"
    unreached = UNREACHED.search(said)
    if not unreached and re.search(r"No matching distribution|Could not find a version", said):
        why = f"there are no wheels for Python {python} on {facts.arch} with {libc}"
        return DeviceError(what, why, "install a newer system there, or the runtime itself into its Python")
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    pip = "pip reaches no index" if unreached else (errors or [said])[-1][:200]
    why = f"neither it nor this machine could fetch it: {pip}"
    return DeviceError(what, why, "connect one of the two, or install the runtime into the device's Python")
