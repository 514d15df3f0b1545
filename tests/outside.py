"""Packages that only tests use and that do not fit into the environment: from the folders that EDGEKIT_OUTSIDE names.

`tests/outside.txt` lists them; `pip install --no-deps --target FOLDER -r tests/outside.txt` puts them into one.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import pytest

#: read at import: a fixture removes every EDGEKIT_ variable from the tests' environment
FOLDERS = [folder for folder in os.environ.get("EDGEKIT_OUTSIDE", "").split(os.pathsep) if folder]

#: torchvision registers fake kernels for these when it is imported; built for another torch, it does not define them
SHIM = """
import torch

torchvision_operators = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        torchvision_operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""

_defined: dict[str, Any] = {}


def outside(module: str, package: str = "") -> Any:
    """The module; without it the test is skipped, with what to install."""
    sys.path.extend(folder for folder in FOLDERS if folder not in sys.path)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = f"pip install --no-deps --target FOLDER {package or module}, and EDGEKIT_OUTSIDE=FOLDER"
        pytest.skip(f"{module} is not here ({error}): {how}")


def torchvision() -> Any:
    """torchvision with its transforms, also where it was built for another torch than the one that is installed."""
    pytest.importorskip("torch")
    if not _defined:
        exec(SHIM, _defined)
    outside("torchvision.transforms.v2", "torchvision")
    return outside("torchvision")


def timm() -> Any:
    """timm, which imports torchvision."""
    torchvision()
    return outside("timm")
