"""`clean`: delete what edgekit made in a run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.core.errors import os_errors
from edgekit.runs.attempts import METHODS_FILE
from edgekit.runs.store import LOCK, LOG, RECIPE, REPORT, RESULTS, SAMPLES, Store
from edgekit.workflows.optimize.search import FILES


def is_run(folder: Path) -> bool:
    """Was this folder made by edgekit?"""
    return folder.is_dir() and (bool(Store(folder).names()) or (folder / LOCK).is_file())


def clean(folder: Path) -> list[str]:
    """Delete what edgekit made in a run folder, and the folder if it is then empty; returns the names that are left."""
    store = Store(folder)
    with store.lock(), os_errors("delete", folder):
        for path in [*(folder / name for name in store.names()), *folder.glob(".scratch-*")]:
            shutil.rmtree(path)
        for path in folder.glob(SAMPLES.format("*")):
            path.unlink()
        for name in (RESULTS, REPORT, RECIPE, LOG, METHODS_FILE, *FILES):
            (folder / name).unlink(missing_ok=True)
    (folder / LOCK).unlink(missing_ok=True)
    left = sorted(path.name for path in folder.iterdir())
    if not left:
        folder.rmdir()
    return left
