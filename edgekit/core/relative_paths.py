"""Names of files that come from data: plain relative names, and links that do not lead out of their folder.

`ondevice/predict.py`, `releases.py` and `agent.py` have the same check in a few lines: they cannot import edgekit.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.core.errors import InputError

#: bytes of one part of a name (Linux allows as many), and of a whole name
LONGEST_PART, LONGEST = 255, 1024


def problem(name: object) -> str:
    """Why this is not a plain relative name such as `model.onnx` or `weights/0.bin`; "" if it is one."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or name[1:2] == ":":
        return f"{name!r:.80} is not a plain file name"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return f"{name!r:.80} is not a relative path without '..'"
    if len(name.encode()) > LONGEST or any(len(part.encode()) > LONGEST_PART for part in name.split("/")):
        return f"{name!r:.80} is too long for a file name"
    return ""


def inside(folder: Path, name: str) -> Path:
    """`folder / name`. Raises InputError unless the name is plain and relative and no link leads out of the folder."""
    path = folder / name if not (why := problem(name)) else folder
    if not why and leads_out(folder, path):
        why = f"{name!r:.80} is a link that leads out of the folder"
    if why:
        raise InputError(f"{folder} names a file outside itself", why, "do not use it: it may be an attack")
    return path


def leads_out(folder: Path, path: Path) -> bool:
    """Does a link on the way to `path` lead out of the folder? The folder itself may be reached through links."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def is_beside(model: Path, file: Path) -> bool:
    """Is the file in the model's folder? Both may be links into one folder of a cache."""
    return not leads_out(model.parent, file) or file.resolve().parent == model.resolve().parent


def refuse_links_out(folder: Path) -> None:
    """Raises InputError if anything in the folder is a link that leads out of it."""
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            if path.is_symlink() and leads_out(folder, path):
                inside(folder, str(path.relative_to(folder)))
