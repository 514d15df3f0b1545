"""torchvision, where it is installed or lies in a folder that EDGEKIT_TORCHVISION names; else the test is skipped."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import pytest

#: read at import: a fixture removes every EDGEKIT_ variable from the tests' environment
FOLDER = os.environ.get("EDGEKIT_TORCHVISION", "")

#: operators that a torchvision built for another torch lacks; the reference keeps them registered
_kept: list[Any] = []


def torchvision() -> Any:
    return _library("torchvision")


def timm() -> Any:
    """timm, which imports torchvision."""
    torchvision()
    return _library("timm")


def _library(name: str) -> Any:
    torch = pytest.importorskip("torch")
    if FOLDER and FOLDER not in sys.path:
        sys.path.append(FOLDER)
    if name not in sys.modules and FOLDER and not _kept:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is not here ({error}): pip install {name}, or name its folder in EDGEKIT_TORCHVISION")
