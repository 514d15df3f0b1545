"""Packages that only tests use and that do not fit into the environment: from a folder that EDGEKIT_OUTSIDE names."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import pytest

#: read at import: a fixture removes every EDGEKIT_ variable from the tests' environment
FOLDERS = os.environ.get("EDGEKIT_OUTSIDE", "").split(os.pathsep)


def outside(module: str, package: str) -> Any:
    """The module; without it the test is skipped, with what to install."""
    sys.path.extend(folder for folder in FOLDERS if folder and folder not in sys.path)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = f"pip install --no-deps --target FOLDER {package}, and EDGEKIT_OUTSIDE=FOLDER"
        pytest.skip(f"{module} is not here ({error}): {how}")
