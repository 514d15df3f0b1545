"""What sliding windows share: kernel, strides, dilations, and the padding that auto_pad asks for."""

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
        """As torch's `pad` takes them: begin and end of each axis, the last axis first."""
        ends = zip(reversed(self.begin), reversed(self.end), strict=True)
        return [size for both in ends for size in both]


def window(node: Node, kernel: Sequence[int], sizes: Sequence[Any]) -> Window:
    """The window of a Conv or pooling node over spatial axes of these sizes."""
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
            reach = (width - 1) * dilation + 1
            # a stride of one needs no size: it may be a symbol
            total = reach - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + reach - size, 0)
            less, more = total // 2, total - total // 2
            begin.append(less if automatic == "SAME_UPPER" else more)
            end.append(more if automatic == "SAME_UPPER" else less)
    return Window(list(kernel), strides, dilations, begin, end)


def spatial(x: Tensor) -> list[Any]:
    """Sizes behind batch and channel."""
    return list(x.shape[2:])
