"""Converts ONNX files to torch networks, for the operators in TABLE (one module per family).

An imported ONNX file can thus be exported to any format that is reached from torch. (onnx2torch needs torchvision,
which cannot be installed with every torch.) Constants are folded at load time; shape computations stay plain numbers,
so that a dynamic batch stays dynamic. Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekit.networks.onnx import (  # noqa: F401  (importing a family registers its operators)
    attention,
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
    """The network in eval mode. Raises CannotConvert, naming all unsupported operators."""
    types = [getattr(torch, spec["dtype"]) for spec in reference["outputs"]]
    return OnnxNetwork(read(folder / MODEL), types).eval()
