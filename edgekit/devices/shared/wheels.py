"""The sha256 of every wheel that was downloaded for a device: the file of a name never changes on an index.

pip compares what it receives with the index's own hashes; that says nothing about an index which is itself replaced.
"""

from __future__ import annotations

import json
from pathlib import Path

from filelock import FileLock

from edgekit.core.errors import DeviceError, os_errors
from edgekit.core.files import sha256, write_atomically


def record() -> Path:
    """Where the hashes are kept: a JSON object, file name → sha256."""
    from platformdirs import user_state_path

    return user_state_path("edgekit") / "wheels.json"


def verify(folder: Path) -> None:
    """Compare the wheels in `folder` with those of the same names downloaded before, and remember the new ones.

    Raises DeviceError if one differs.
    """
    file = record()
    with os_errors("write", file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        known = _read(file)
        for wheel in sorted(folder.glob("*.whl")):
            found = sha256(wheel)
            if known.setdefault(wheel.name, found) != found:
                why = f"its sha256 is {found}, and was {known[wheel.name]} before"
                next = f"ask the index's owner; if it was built again there, remove its line from {file}"
                raise DeviceError(f"{wheel.name} is not the file that was downloaded before", why, next)
        write_atomically(file, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _read(file: Path) -> dict[str, str]:
    """What is remembered. Raises DeviceError if the record is damaged: it cannot be relied on, nor replaced unseen."""
    if not file.is_file():
        return {}
    try:
        known = json.loads(file.read_bytes())
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    except (ValueError, RecursionError):
        pass
    raise DeviceError(f"{file} is damaged", "it is no object of file names and hashes", f"remove it: rm {file}")
