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
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from edgekit import registry
from edgekit.devices._facts import Facts
from edgekit.devices._files import sha256
from edgekit.devices._ssh import Session
from edgekit.errors import DeviceError, InputError
from edgekit.types import Target

#: the oldest Python that the runner keeps to
OLDEST_PYTHON = (3, 8)
#: seconds that pip may take, there or here
PIP_SECONDS = 900.0
#: glibc's minor version below which no wheel of this architecture was ever built (PEP 600), and the older names
FIRST_GLIBC = {"aarch64": 17, "x86_64": 5}
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


def way(session: Session, target: Target, runtime: str) -> Way:
    """How `runtime` would come to be there; nothing is made. Raises DeviceError or InputError where it cannot be."""
    facts = session.facts
    _check(facts, target, runtime)
    cls = registry.load("runtimes", runtime)
    packages = list(dict.fromkeys(["numpy", cls.package]))
    found = session.checked(session.call("versions", packages=packages))["versions"]
    wanted = SpecifierSet(target.runtimes.get(runtime, ""))
    if all(found.get(name) for name in packages) and wanted.contains(found[cls.package], prereleases=True):
        return Way("own", version=found[cls.package])
    key = _key(runtime, target, facts)
    if session.checked(session.call("has", key=key))["has"]:
        there = session.checked(session.call("versions", packages=packages, environment=key))["versions"]
        return Way("made", key, there.get(cls.package) or "")
    return Way("pip" if _pip_works(session) else "wheels", key)


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
    if registry.load("runtimes", runtime).package == "torch":
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
    if facts.bits == 32:
        why = f"its Python is a 32-bit one on {facts.arch}, and {runtime} has no 32-bit wheels"
        raise DeviceError(f"{target.name} cannot run {runtime}", why, "install the 64-bit system there")


def _key(runtime: str, target: Target, facts: Facts) -> str:
    parts = [*_requirements(runtime, target), *map(str, (facts.python or ())[:2]), facts.arch, str(facts.glibc)]
    return f"{runtime}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


def _requirements(runtime: str, target: Target) -> list[str]:
    """What to ask pip for first: the version this machine has, so that both answer alike, where the target takes it."""
    package, wanted = registry.load("runtimes", runtime).package, target.runtimes.get(runtime, "")
    if package == "numpy":
        return ["numpy"]
    try:
        here = version(package)
    except PackageNotFoundError:
        return [f"{package}{wanted}", "numpy"]
    if SpecifierSet(wanted).contains(here, prereleases=True):
        return [f"{package}=={here}", "numpy"]
    return [f"{package}{wanted}", "numpy"]


def _choices(runtime: str, target: Target) -> Iterator[list[str]]:
    """The version that is here; else any the target takes (an older Python there may have no wheel of the newest)."""
    first = _requirements(runtime, target)
    any_version = [f"{registry.load('runtimes', runtime).package}{target.runtimes.get(runtime, '')}", "numpy"]
    yield first
    if first != any_version and first != ["numpy"]:
        yield any_version


def _pip_works(session: Session) -> bool:
    """Has the device pip, and does pip there reach an index? Asked once."""
    if session.pip is None:
        asked = ["index", "versions", "numpy", "--timeout", "5", "--retries", "0"]
        session.pip = session.checked(session.call("pip", arguments=asked, timeout=90, limit=30))["code"] == 0
    return session.pip


def _by_pip(session: Session, target: Target, runtime: str, key: str) -> bool:
    for wanted in _choices(runtime, target):
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
        for wanted in _choices(runtime, target):
            said = _download(wanted, session.facts, Path(folder))
            if not said or UNREACHED.search(said):
                break
        if said:
            raise _no_wheels(target, runtime, session.facts, said)
        wheels = {path.name: sha256(path) for path in sorted(Path(folder).glob("*.whl"))}
        session.send({sha: Path(folder) / name for name, sha in wheels.items()})
        size = sum(path.stat().st_size for path in Path(folder).glob("*.whl"))
        session.checked(session.call("unpack", key=key, wheels=wheels, timeout=120 + size / 1e5))


def _download(wanted: list[str], facts: Facts, folder: Path) -> str:
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
    if facts.glibc is None or facts.arch not in FIRST_GLIBC:
        return []
    found = []
    for minor in range(facts.glibc[1], FIRST_GLIBC[facts.arch] - 1, -1):
        found.append(f"manylinux_2_{minor}_{facts.arch}")
        if minor in LEGACY:
            found.append(f"{LEGACY[minor]}_{facts.arch}")
    return found


def _no_wheels(target: Target, runtime: str, facts: Facts, said: str) -> DeviceError:
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
