"""Search path for data files: the working directory, then the user's configuration, then the package.

`targets/` and `calibration/` are at the top of a checkout (an editable install) and inside the package in a wheel.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def user_config() -> Path:
    """The user's configuration folder; targets added with an address are stored here."""
    from platformdirs import user_config_path

    return user_config_path("edgekit")


def folders(kind: str) -> tuple[Path, ...]:
    """The folders that may hold `kind` ("targets", "calibration", "recipes"), in order of precedence."""
    shipped = PACKAGE / kind if (PACKAGE / kind).is_dir() else PACKAGE.parent / kind
    return tuple(folder for folder in (Path.cwd() / kind, user_config() / kind, shipped) if folder.is_dir())


def find(kind: str, name: str) -> Path | None:
    """The TOML file called `name` among `folders(kind)`, or None."""
    return next((path for folder in folders(kind) if (path := folder / f"{name}.toml").is_file()), None)


def names(kind: str) -> tuple[str, ...]:
    return tuple(sorted({path.stem for folder in folders(kind) for path in folder.glob("*.toml")}))
