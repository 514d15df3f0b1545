"""Networks in float16 or bfloat16, whose layers neither exporters nor calibration compute in, in float32."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)


def runs_in_float32(network: nn.Module, example: Any) -> bool:
    """Whether it has such weights and also runs with them and its inputs in float32: its code converts to no half."""
    if not any(tensor.dtype in HALF for tensor in [*network.parameters(), *network.buffers()]):
        return False
    inputs = to_float32(example)
    single = copy.deepcopy(network).float()
    try:
        with torch.inference_mode():
            if isinstance(inputs, Mapping):
                single(**inputs)
            else:
                single(*inputs if isinstance(inputs, tuple | list) else (inputs,))
    except Exception:  # whatever the network raises
        return False
    return True


def to_float32(example: Any) -> Any:
    """Example inputs with the tensors of these types in float32."""
    if isinstance(example, Mapping):
        return {name: to_float32(value) for name, value in example.items()}
    if isinstance(example, tuple | list):
        return [to_float32(value) for value in example]
    return example.float() if isinstance(example, Tensor) and example.dtype in HALF else example
