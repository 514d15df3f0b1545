"""For a device without Python: the runner in C, cross-compiled on this machine, and the runtime's library."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import shutil
import zipfile
from pathlib import Path

from edgekit.core import children, registry
from edgekit.core.errors import DeviceError, InputError, Missing, os_errors
from edgekit.core.files import replacing
from edgekit.core.target import Target
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared import environment
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.job import RUNNER

SOURCE = RUNNER.parent / "native"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
#: architecture → Debian's cross-compiler, and its packages
COMPILERS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    "x86_64": ("x86_64-linux-gnu-gcc", "gcc"),
}


def cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "native"


def check_supported(runtime: str, name: str) -> None:
    """Raises InputError for a runtime that the native runner does not support."""
    declared = registry.runtime(runtime)
    if declared.library and (SOURCE / f"{runtime}.c").is_file():
        return
    if declared.needs_edgekit:
        raise InputError(f"torch artifacts run where edgekit is installed, not on {name}", next="export them first")
    known = " and ".join(r.name for r in registry.runtimes() if r.library)
    why = f"a phone has no Python, and the native runner supports only {known}"
    raise InputError(f"{runtime} does not run on {name}", why, "export to ONNX or TFLite")


def runner(facts: Facts) -> Path:
    """The runner for a device, built and cached. Raises Missing or DeviceError."""
    compiler = _compiler(facts)
    sources = sorted([*SOURCE.glob("*.c"), *SOURCE.glob("*.h")])
    parts = [" ".join(compiler), *FLAGS, *(path.read_text() for path in sources)]
    path = cache() / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16] / "runner"
    if path.is_file():
        return path
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as folder:
        part = folder / "runner"
        command = [*compiler, *FLAGS, "-o", str(part), *(str(path) for path in sources if path.suffix == ".c")]
        done = children.run([*command, "-ldl", "-lm"], text=True)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
            next = f"does {compiler[0]} compile other programs? reinstall it"
            raise DeviceError("the native runner cannot be built", lines[0][:300], next)
        part.rename(path)
    return path


def _compiler(facts: Facts) -> list[str]:
    """Debian's compiler for glibc; for Android's C library (bionic), the compiler that the user names."""
    named = os.environ.get("EDGEKIT_ANDROID_CC" if facts.glibc is None else "EDGEKIT_CC", "")
    if named:
        if shutil.which(named) is None:
            raise InputError(f"there is no compiler {named!r}", next="give its full path")
        return [named]
    if facts.glibc is None:
        why = "it has Android's C library, which needs the compiler of Android's NDK"
        next = "EDGEKIT_ANDROID_CC=…/toolchains/llvm/prebuilt/linux-x86_64/bin/aarch64-linux-android24-clang"
        raise Missing("the native runner cannot be built for this phone", why, next)
    name, packages = COMPILERS.get(facts.arch, ("", ""))
    if not name:
        raise InputError(f"there is no native runner for {facts.arch}", f"supported: {' and '.join(COMPILERS)}")
    if shutil.which(name) is None:
        if facts.arch == platform.machine() and shutil.which("cc"):
            return ["cc"]
        raise Missing("the native runner cannot be built", f"there is no {name}", f"sudo apt-get install {packages}")
    return [name]


def library(target: Target, facts: Facts, runtime: str) -> Path:
    """The runtime's library: the user's own, or the one in the wheel. Raises InputError or DeviceError."""
    check_supported(runtime, target.name)
    if own := target.libraries.get(runtime, ""):
        path = Path(own).expanduser()
        if not path.is_file():
            raise InputError(
                f"there is no {path}", f"it is the library of {runtime} in {target.name}", "fix its target file"
            )
        return path
    if facts.glibc is None:
        why = "it has Android's C library, and wheels are built for Linux's"
        next = f"edgekit targets add {target.name} --adb {target.address} --library {runtime}=PATH --replace, with "
        next += registry.runtime(runtime).android_library
        raise InputError(f"{target.name} needs the Android build of {runtime}", why, next)
    return _from_wheel(target, facts, runtime)


def version(target: Target, runtime: str, path: Path) -> str:
    """The version of a library that does not report it: the wheel's version, or "unknown" for the user's own."""
    return "unknown" if target.libraries.get(runtime) else path.with_name("version").read_text()


def _from_wheel(target: Target, facts: Facts, runtime: str) -> Path:
    facts = dataclasses.replace(facts, python=(3, 11, 0), bits=64)  # any Python: the library does not depend on it
    declared, requirement = registry.runtime(runtime), environment.requirements(runtime, target)[0]
    if requirement == declared.package:
        requirement += declared.library_versions
    place = cache() / hashlib.sha256(f"{requirement} {facts.arch} {facts.glibc}".encode()).hexdigest()[:16]
    if (place / "library.so").is_file():
        return place / "library.so"
    with temporary_folder() as folder:
        if output := environment.download([requirement, "--no-deps"], facts, folder):
            raise environment.no_wheels(target, runtime, facts, output)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as file, os_errors("write", place):
            member = next((name for name in file.namelist() if name.startswith(declared.library)), "")
            if not member:
                raise DeviceError(f"{wheel.name} contains no {declared.library}", next="name one with --library")
            place.mkdir(parents=True, exist_ok=True)
            (place / "version").write_text(wheel.name.split("-")[1])
            with replacing(place / "library.so") as part:
                part.write_bytes(file.read(member))
    return place / "library.so"
