"""torchvision as a reference for tests: installed, or in a folder of its own, also next to a CPU build of torch."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

import pytest

VARIABLE = "EDGEKIT_TORCHVISION"
# read now: the tests themselves see no EDGEKIT_ variables (conftest.py)
FOLDER = os.environ.get(VARIABLE, "")
# the definitions are withdrawn when a library object is garbage-collected
_defined: list[Any] = []


def torchvision() -> ModuleType:
    """torchvision with its transforms loaded; skips the test if it is neither installed nor in $EDGEKIT_TORCHVISION."""
    import torch

    if FOLDER and FOLDER not in sys.path:
        sys.path.append(FOLDER)
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip(f"needs torchvision: pip install --no-deps --target FOLDER torchvision, then {VARIABLE}=FOLDER")
    if "torchvision" not in sys.modules and not _defined:
        _define_missing(torch)
    importlib.import_module("torchvision.transforms.v2")
    return importlib.import_module("torchvision")


def _define_missing(torch: ModuleType) -> None:
    """The operators that its import registers fake kernels for; its own library defines them where it loads."""
    import torch.library

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _defined.append(library)
