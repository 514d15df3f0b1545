"""Sliding windows: kernel, strides, dilations, and padding including auto_pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgekit.networks.onnx.operators import Node


@dataclass(frozen=True)
class Window:
    """One entry per spatial axis; `begin` and `end` are the padding before and after."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[Any]
    end: list[Any]

    @property
    def symmetric(self) -> bool:
        return self.begin == self.end

    @property
    def pads(self) -> list[Any]:
        """In the order of torch's `pad`: begin and end of each axis, the last axis first."""
        ends = zip(reversed(self.begin), reversed(self.end), strict=True)
        return [size for both in ends for size in both]


def window(node: Node, kernel: Sequence[int], sizes: Sequence[Any]) -> Window:
    """The window of a convolution or pooling node over spatial axes of these sizes."""
    rank = len(kernel)
    strides = list(node.get("strides", [1] * rank))
    dilations = list(node.get("dilations", [1] * rank))
    pads = list(node.get("pads", [0] * 2 * rank))
    begin, end = pads[:rank], pads[rank:]
    automatic = node.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        begin, end = [0] * rank, [0] * rank
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = [], []
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            extent = (width - 1) * dilation + 1
            # a stride of one does not need the size, which may be symbolic
            total = extent - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + extent - size, 0)
            smaller_half, larger_half = total // 2, total - total // 2
            begin.append(smaller_half if automatic == "SAME_UPPER" else larger_half)
            end.append(larger_half if automatic == "SAME_UPPER" else smaller_half)
    return Window(list(kernel), strides, dilations, begin, end)


def spatial(x: Tensor) -> list[Any]:
    """Sizes of the spatial axes."""
    return list(x.shape[2:])
