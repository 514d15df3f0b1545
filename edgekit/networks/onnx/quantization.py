"""Linear quantization: value = scale * (stored - zero point)."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.networks.onnx.operators import Node, dtype, operator


@operator("QuantizeLinear")
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    kind = zero.dtype if zero is not None else dtype(node, node.get("output_dtype", 0) or 2)
    limits = torch.iinfo(kind)
    scale, offset = (
        _reshape_for_axis(node, x, scale),
        0 if zero is None else _reshape_for_axis(node, x, zero).to(torch.int32),
    )
    stored = torch.round(x / scale).to(torch.int32) + offset
    return torch.clamp(stored, limits.min, limits.max).to(kind)


@operator("DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    stored = x.to(torch.int32) if zero is None else x.to(torch.int32) - _reshape_for_axis(node, x, zero).to(torch.int32)
    return stored.to(scale.dtype) * _reshape_for_axis(node, x, scale)


def _reshape_for_axis(node: Node, x: Tensor, values: Tensor) -> Tensor:
    """Per-tensor values as a scalar, per-axis values shaped for broadcasting. Raises CannotConvert for blocks."""
    if node.get("block_size", 0):
        raise node.conversion_error("block-wise quantization is not supported")
    if values.numel() == 1:
        return values.reshape(())
    return values.reshape([-1 if axis == node.get("axis", 1) % x.ndim else 1 for axis in range(x.ndim)])
