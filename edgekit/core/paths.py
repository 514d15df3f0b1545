"""Search path for data files: the working directory if it is trusted, then the user's configuration, then the package.

`targets/` and `calibration/` are at the top of a checkout (an editable install) and inside the package in a wheel.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.core import trust
from edgekit.core.errors import InputError
from edgekit.core.printable import printable

PACKAGE = Path(__file__).parents[1]

#: the notices that were printed: each once per process
_told: set[str] = set()


def user_config() -> Path:
    """The user's configuration folder; targets added with an address are stored here."""
    from platformdirs import user_config_path

    return user_config_path("edgekit")


def folders(kind: str) -> tuple[Path, ...]:
    """The folders that may hold `kind` ("targets", "calibration", "recipes"), in order of precedence."""
    local = _local(kind)
    usable = (local,) if local is not None and trust.is_trusted(local.parent) else ()
    return (*usable, *_installed(kind))


def find(kind: str, name: str) -> Path | None:
    """The TOML file called `name` among `folders(kind)`, or None. Says so on stderr if it replaces a shipped one.

    Raises InputError if the only one is in a working directory that is not trusted.
    """
    if Path(name).name != name:
        return None
    known = [path for folder in _installed(kind) if (path := folder / f"{name}.toml").is_file()]
    local = _local(kind)
    if local is not None and (path := local / f"{name}.toml").is_file():
        if why := _unusable(path):
            shown = f"{kind}/{name}.toml of this folder"
            if not known:
                raise InputError(f"{shown} is not used", why, "edgekit trust shows what this folder sets, and asks")
            _tell(f"warning: {shown} is not used, {why}: {name} is {known[0]} (edgekit trust)")
        else:
            known.insert(0, path)
    if len(known) > 1 and known[-1].parent == _shipped(kind):
        _tell(f"warning: {name} is {known[0]}, in place of the shipped one")
    return known[0] if known else None


def names(kind: str) -> tuple[str, ...]:
    """The names in `folders(kind)`. Says on stderr if those of the working directory are left out."""
    local = _local(kind)
    if local is not None and any(local.glob("*.toml")) and not trust.is_trusted(local.parent):
        _tell(f"warning: {kind}/ of this folder is not used: it is not trusted (edgekit trust)")
    paths = (path for folder in folders(kind) for path in folder.glob("*.toml") if folder != local or _inside(path))
    return tuple(sorted({path.stem for path in paths}))


def settings() -> Path | None:
    """`edgekit.toml` of the working directory; None where there is none, or it is the user's own configuration."""
    path = Path.cwd() / trust.SETTINGS
    own = user_config() / trust.SETTINGS
    return path if path.is_file() and not (own.exists() and own.samefile(path)) else None


def shipped_names(kind: str) -> frozenset[str]:
    """The names that come with edgekit."""
    return frozenset(path.stem for path in _shipped(kind).glob("*.toml"))


def _shipped(kind: str) -> Path:
    return PACKAGE / kind if (PACKAGE / kind).is_dir() else PACKAGE.parent / kind


def _installed(kind: str) -> tuple[Path, ...]:
    """Those that need no trust: the user's own, and the shipped ones."""
    return tuple(folder for folder in (user_config() / kind, _shipped(kind)) if folder.is_dir())


def _local(kind: str) -> Path | None:
    """The working directory's folder, unless it is one of those that need no trust, as in a checkout."""
    folder = Path.cwd() / kind
    return folder if folder.is_dir() and not any(map(folder.samefile, _installed(kind))) else None


def is_of_folder(path: Path) -> bool:
    """Is it a file of the working directory's targets/, calibration/ or recipes/, found by its name?"""
    local = _local(path.parent.name)
    return local is not None and path.parent == local


def _unusable(path: Path) -> str:
    """Why a file of the working directory is not used; "" if it is."""
    if not _inside(path):
        return "it is a link that leads out of the folder"
    return "" if trust.is_trusted(path.parents[1]) else "the folder is not trusted"


def _inside(path: Path) -> bool:
    return trust.is_inside(path, path.parents[1])


def _tell(line: str) -> None:
    """On stderr even while a run folder's log takes what is logged: it must not be missed."""
    if line not in _told:
        _told.add(line)
        print(printable(line), file=sys.stderr)
