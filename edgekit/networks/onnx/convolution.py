"""Convolutions and matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, operator
from edgekit.networks.onnx.windows import spatial, window

_CONV: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@operator("Conv")
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = weight.ndim - 2
    if rank not in _CONV:
        raise node.conversion_error(f"torch has no convolution over {rank} axes")
    w = window(node, weight.shape[2:], spatial(x))
    padding: Any = w.begin
    if not w.symmetric:
        x, padding = functional.pad(x, w.pads), 0
    result: Tensor = _CONV[rank](x, weight, bias, w.strides, padding, w.dilations, node.get("group", 1))
    return result


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch supports symmetric padding and output_padding below a stride only; other cases crop or pad the full
    result."""
    rank = weight.ndim - 2
    if rank not in _TRANSPOSED:
        raise node.conversion_error(f"torch has no transposed convolution over {rank} axes")
    strides, dilations = list(node.get("strides", [1] * rank)), list(node.get("dilations", [1] * rank))
    extra = list(node.get("output_padding", [0] * rank))
    effective_kernel = [(size - 1) * dilation + 1 for size, dilation in zip(weight.shape[2:], dilations, strict=True)]
    pads = list(node.get("pads", [0] * 2 * rank))
    begin, end = pads[:rank], pads[rank:]
    automatic, shape = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if automatic == "VALID":
        begin, end = [0] * rank, [0] * rank
    elif shape or automatic.startswith("SAME"):
        sizes = list(shape[-rank:]) if shape else [n * s for n, s in zip(spatial(x), strides, strict=True)]
        begin, end = [], []
        for axis, size in enumerate(spatial(x)):
            total = strides[axis] * (size - 1) + extra[axis] + effective_kernel[axis] - sizes[axis]
            smaller_half, larger_half = total // 2, total - total // 2
            begin.append(smaller_half if automatic == "SAME_UPPER" else larger_half)
            end.append(larger_half if automatic == "SAME_UPPER" else smaller_half)
    groups = node.get("group", 1)
    plain = begin == end and min(begin) >= 0 and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations))  # noqa: B905
    if plain:
        result: Tensor = _TRANSPOSED[rank](x, weight, bias, strides, begin, extra, groups, dilations)
        return result
    result = _TRANSPOSED[rank](x, weight, None, strides, 0, 0, groups, dilations)
    ends = zip(reversed(begin), reversed(end), reversed(extra), strict=True)
    result = functional.pad(result, [size for b, e, added in ends for size in (-b, added - e)])
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


@operator("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    b = b if node.get("transB", 0) else b.t()  # the layout of torch's linear
    if alpha == 1 and a.is_floating_point() and (c is None or (beta == 1 and c.ndim == 1 and len(c) == len(b))):
        return functional.linear(a, b, c)
    product = a @ b.t() if alpha == 1 else alpha * (a @ b.t())
    if c is None:
        return product
    return product + (c if beta == 1 else beta * c)


@operator("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@operator("Einsum")
def einsum(node: Node, *tensors: Tensor) -> Tensor:
    return torch.einsum(node.get("equation").replace(" ", ""), *tensors)
