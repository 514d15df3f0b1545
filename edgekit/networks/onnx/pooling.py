"""Pooling: windows that may hang over either end."""

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
    if node.wants(1):
        raise node.refuse("its second output, the places of the maxima, has no counterpart")
    ceil = bool(node.get("ceil_mode", 0))
    padding: Any = w.begin
    sizes = spatial(x)
    if _hangs_over(w, sizes):
        ceil = True
    elif not _torch_pads(w):
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x, padding = functional.pad(x, w.pads, value=lowest), 0
    integers = not x.is_floating_point()  # torch pools floats only
    result: Tensor = pool(x.double() if integers else x, w.kernel, w.strides, padding, w.dilations, ceil)
    result = result.to(x.dtype) if integers else result
    return _cropped(result, w, sizes) if ceil else result


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    w, pool = _window(node, x, _AVERAGE)
    if set(w.dilations) != {1}:
        raise node.refuse("torch averages over windows without dilation only")
    ceil, with_pads = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    sizes = spatial(x)
    if _torch_pads(w):
        result: Tensor = pool(x, w.kernel, w.strides, w.begin, ceil, with_pads)
    else:
        result = pool(functional.pad(x, w.pads), w.kernel, w.strides, 0, ceil)
        if not with_pads:
            ones = torch.ones([1, 1, *sizes], dtype=x.dtype)
            result = result / pool(functional.pad(ones, w.pads), w.kernel, w.strides, 0, ceil)
    return _cropped(result, w, sizes) if ceil else result


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return x.mean(dim=list(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(dim=list(range(2, x.ndim)), keepdim=True)


def _window(node: Node, x: Tensor, functions: dict[int, Any]) -> tuple[Window, Any]:
    kernel = node.get("kernel_shape")
    if len(kernel) not in functions:
        raise node.refuse(f"torch has no pooling over {len(kernel)} axes")
    return window(node, kernel, spatial(x)), functions[len(kernel)]


def _torch_pads(w: Window) -> bool:
    """Can torch pad so itself: both ends alike, by half a window at most?"""
    return w.symmetric and all(pad <= kernel // 2 for pad, kernel in zip(w.begin, w.kernel, strict=True))


def _hangs_over(w: Window, sizes: list[Any]) -> bool:
    """Is the padding behind the end just what rounding up gives the last window? Runtimes do that without padding."""
    if w.symmetric or any(pad > kernel // 2 for pad, kernel in zip(w.begin, w.kernel, strict=True)):
        return False
    for axis, size in enumerate(sizes):
        reach, stride = (w.kernel[axis] - 1) * w.dilations[axis] + 1, w.strides[axis]
        begin, end = w.begin[axis], w.end[axis]
        wanted = (size + begin + end - reach) // stride
        given = -(-(size + 2 * begin - reach) // stride)
        if wanted != given or given * stride >= size + begin:
            return False
    return True


def _cropped(result: Tensor, w: Window, sizes: list[Any]) -> Tensor:
    """Without windows that would begin in the padding behind the end, which ONNX leaves out."""
    for axis, size in enumerate(sizes):
        stride, begin = w.strides[axis], w.begin[axis]
        reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1
        count = -(-(size + begin + w.end[axis] - reach) // stride) + 1
        if (count - 1) * stride >= size + begin:
            count -= 1
        result = result.narrow(axis + 2, 0, count)
    return result
