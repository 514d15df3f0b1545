"""Integers that stand for real numbers: scale * (stored - zero point)."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.networks.onnx.operators import Node, dtype, operator


@operator("QuantizeLinear")
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    kind = zero.dtype if zero is not None else dtype(node, node.get("output_dtype", 0) or 2)
    limits = torch.iinfo(kind)
    scale, offset = _along(node, x, scale), 0 if zero is None else _along(node, x, zero).to(torch.int32)
    stored = torch.round(x / scale).to(torch.int32) + offset
    return torch.clamp(stored, limits.min, limits.max).to(kind)


@operator("DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    stored = x.to(torch.int32) if zero is None else x.to(torch.int32) - _along(node, x, zero).to(torch.int32)
    return stored.to(scale.dtype) * _along(node, x, scale)


def _along(node: Node, x: Tensor, values: Tensor) -> Tensor:
    """One value for the tensor, or one per slice along `axis`. Raises CannotConvert for blocks."""
    if node.get("block_size", 0):
        raise node.refuse("it has one scale per block")
    if values.numel() == 1:
        return values.reshape(())
    return values.reshape([-1 if axis == node.get("axis", 1) % x.ndim else 1 for axis in range(x.ndim)])
