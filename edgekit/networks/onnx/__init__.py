"""A model from an ONNX file as a torch network, for the operators of one table (a file here for each family).

So a foreign ONNX file reaches every format that is exported from torch. (onnx2torch does the same, but needs
torchvision, which cannot be installed beside every torch.) Everything constant is computed while loading; what decides
shapes stays plain numbers, so that an open batch stays open. Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekit.networks.onnx import (  # noqa: F401  (importing a family enters its operators into the table)
    convolution,
    elementwise,
    indexing,
    normalisation,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    shape,
)
from edgekit.networks.onnx.graph import graph, read
from edgekit.networks.onnx.network import OnnxNetwork
from edgekit.networks.onnx.operators import TABLE

__all__ = ["TABLE", "OnnxNetwork", "graph", "load", "read"]

MODEL = "model.onnx"


def load(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The network in eval mode. Raises CannotConvert, naming every operator there is no way for."""
    types = [getattr(torch, spec["dtype"]) for spec in reference["outputs"]]
    return OnnxNetwork(read(folder / MODEL), types).eval()
