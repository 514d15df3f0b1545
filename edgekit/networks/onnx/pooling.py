"""Pooling, with padding at either end."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, operator
from edgekit.networks.onnx.windows import Window, spatial, window

_MAX: dict[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    w, pool = _window(node, x, _MAX)
    if node.has_output(1):
        raise node.conversion_error("its second output, the indices of the maxima, is not supported")
    ceil = bool(node.get("ceil_mode", 0))
    padding: Any = w.begin
    sizes = spatial(x)
    if _is_ceil_padding(w, sizes):
        ceil = True
    elif not _torch_supports_padding(w):
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x, padding = functional.pad(x, w.pads, value=lowest), 0
    integers = not x.is_floating_point()  # torch pools floating-point tensors only
    result: Tensor = pool(x.double() if integers else x, w.kernel, w.strides, padding, w.dilations, ceil)
    result = result.to(x.dtype) if integers else result
    return _crop(result, w, sizes) if ceil else result


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    w, pool = _window(node, x, _AVERAGE)
    if set(w.dilations) != {1}:
        raise node.conversion_error("torch has no average pooling with dilation")
    ceil, with_pads = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    sizes = spatial(x)
    if _torch_supports_padding(w):
        result: Tensor = pool(x, w.kernel, w.strides, w.begin, ceil, with_pads)
    else:
        result = pool(functional.pad(x, w.pads), w.kernel, w.strides, 0, ceil)
        if not with_pads:
            ones = torch.ones([1, 1, *sizes], dtype=x.dtype)
            result = result / pool(functional.pad(ones, w.pads), w.kernel, w.strides, 0, ceil)
    return _crop(result, w, sizes) if ceil else result


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return x.mean(dim=list(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(dim=list(range(2, x.ndim)), keepdim=True)


def _window(node: Node, x: Tensor, functions: dict[int, Any]) -> tuple[Window, Any]:
    kernel = node.get("kernel_shape")
    if len(kernel) not in functions:
        raise node.conversion_error(f"torch has no pooling over {len(kernel)} axes")
    return window(node, kernel, spatial(x)), functions[len(kernel)]


def _torch_supports_padding(w: Window) -> bool:
    """Whether torch supports the padding: symmetric, and at most half a window."""
    return w.symmetric and all(pad <= kernel // 2 for pad, kernel in zip(w.begin, w.kernel, strict=True))


def _is_ceil_padding(w: Window, sizes: list[Any]) -> bool:
    """Whether the end padding equals that of ceil_mode, which runtimes apply without explicit padding."""
    if w.symmetric or any(pad > kernel // 2 for pad, kernel in zip(w.begin, w.kernel, strict=True)):
        return False
    for axis, size in enumerate(sizes):
        effective_kernel, stride = (w.kernel[axis] - 1) * w.dilations[axis] + 1, w.strides[axis]
        begin, end = w.begin[axis], w.end[axis]
        number_inputs = (size + begin + end - effective_kernel) // stride
        declared = -(-(size + 2 * begin - effective_kernel) // stride)
        if number_inputs != declared or declared * stride >= size + begin:
            return False
    return True


def _crop(result: Tensor, w: Window, sizes: list[Any]) -> Tensor:
    """Drop windows that start in the end padding, which ONNX does not compute."""
    for axis, size in enumerate(sizes):
        stride, begin = w.strides[axis], w.begin[axis]
        effective_kernel = (w.kernel[axis] - 1) * w.dilations[axis] + 1
        count = -(-(size + begin + w.end[axis] - effective_kernel) // stride) + 1
        if (count - 1) * stride >= size + begin:
            count -= 1
        result = result.narrow(axis + 2, 0, count)
    return result
