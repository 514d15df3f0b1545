"""Rules about zeros around a convolution's input: part of the convolution where TFLite can say so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.steps.shared.tflite_rules import Rule

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


class PadRule(Rule):
    """Of a PAD with zeros that only a convolution reads."""

    def matches(self, operator: Any) -> bool:
        if self.graph.type(operator) not in ("PAD", "PADV2"):
            return False
        return any(self.graph.type(reader) in _CONVOLUTIONS for reader in self.graph.readers(operator.outputs[0]))

    def check(self, operator: Any) -> str:
        graph, output = self.graph, int(operator.outputs[0])
        source, conv = int(operator.inputs[0]), graph.only_reader(output)
        pads = graph.constant(int(operator.inputs[1]))
        if conv is None:
            return "something else reads the padded tensor"
        if not graph.fixed(source, output, int(conv.outputs[0])) or pads is None:
            return "sizes are open"
        if pads.shape != (4, 2) or pads[0].any() or pads[3].any() or (pads < 0).any():
            return "it pads samples or channels"
        if graph.scale(source) != graph.scale(output):
            return "it changes the scale"
        if graph.type(operator) == "PADV2":
            value, zero = graph.constant(int(operator.inputs[2])), self._zero(source)
            if value is None or value.size != 1 or value.item() != zero:
                return "it does not pad with zeros"
        return self.check_axes(operator, conv)

    def check_axes(self, operator: Any, conv: Any) -> str:
        raise NotImplementedError

    def _zero(self, index: int) -> int:
        """What stands for 0."""
        scale = self.graph.scale(index)
        return int(scale[1][0]) if scale and scale[1] else 0

    def axes(self, operator: Any, conv: Any) -> Iterator[_Axis]:
        """Height and width."""
        graph, options = self.graph, conv.builtinOptions
        sizes, padded = graph.shape(int(operator.inputs[0])), graph.shape(int(operator.outputs[0]))
        kernel, out = graph.shape(int(conv.inputs[1])), graph.shape(int(conv.outputs[0]))
        pads = graph.constant(int(operator.inputs[1]))
        assert pads is not None
        steps = (options.strideH, options.dilationHFactor), (options.strideW, options.dilationWFactor)
        for axis, (stride, dilation) in zip((1, 2), steps, strict=True):
            first = int(pads[axis][0])
            if self.is_same(conv):
                first += _same(padded[axis], out[axis], stride, (kernel[axis] - 1) * dilation + 1)
            yield _Axis(sizes[axis], out[axis], kernel[axis], stride, dilation, first)

    @staticmethod
    def is_same(conv: Any) -> bool:
        from ai_edge_litert.schema_py_generated import Padding

        return bool(conv.builtinOptions.padding == Padding.SAME)

    def fold(self, operator: Any, conv: Any) -> None:
        from ai_edge_litert.schema_py_generated import Padding

        conv.builtinOptions.padding = Padding.SAME
        self.graph.bypass(operator)


class _Axis:
    """One axis of a convolution: `before` rows of zeros come before the tensor's `size` rows."""

    def __init__(self, size: int, out: int, kernel: int, stride: int, dilation: int, before: int) -> None:
        self.size, self.out, self.kernel = size, out, kernel
        self.stride, self.dilation, self.before = stride, dilation, before

    def same(self, kernel: int) -> bool:
        """Does SAME padding with a kernel of this size begin at the same row, and give as many outputs?"""
        extent = (kernel - 1) * self.dilation + 1
        outputs = -(-self.size // self.stride)
        return outputs == self.out and _same(self.size, self.out, self.stride, extent) == self.before

    @property
    def grown(self) -> int:
        """The smallest kernel, none or one row larger, with which SAME padding is equal; 0 for none."""
        return next((kernel for kernel in (self.kernel, self.kernel + 1) if self.same(kernel)), 0)

    @property
    def last(self) -> int:
        """How many rows, with those before, are read."""
        return (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation + 1


def _same(size: int, out: int, stride: int, extent: int) -> int:
    """TFLite's rows before the tensor for SAME padding."""
    return max((out - 1) * stride + extent - size, 0) // 2


class FoldPad(PadRule):
    """A PAD that is the convolution's own SAME padding."""

    def check_axes(self, operator: Any, conv: Any) -> str:
        if not all(axis.same(axis.kernel) for axis in self.axes(operator, conv)):
            return "SAME padding would begin at another row or column"
        return ""

    def rewrite(self, operator: Any) -> None:
        self.fold(operator, self.graph.only_reader(operator.outputs[0]))


class GrowKernel(PadRule):
    """A PAD before a strided depthwise convolution, as SAME padding of a kernel with one more row and column of zeros.

    torch pads both sides, TFLite's SAME padding the far side first. The kernel multiplies 16 values instead of 9 and
    needs no padded tensor; XNNPACK, which writes none anyway, is slower with it.
    """

    def check_axes(self, operator: Any, conv: Any) -> str:
        if self.graph.type(conv) != "DEPTHWISE_CONV_2D":
            return "the larger kernel would cost too much"
        if not all(axis.grown for axis in self.axes(operator, conv)):
            return "SAME padding of a kernel one row larger would begin at another row or column"
        return "" if self.graph.constant(int(conv.inputs[1])) is not None else "the weights are no constant"

    def rewrite(self, operator: Any) -> None:
        conv = self.graph.only_reader(operator.outputs[0])
        assert conv is not None
        weights = self.graph.constant(int(conv.inputs[1]))
        assert weights is not None
        height, width = (axis.grown - axis.kernel for axis in self.axes(operator, conv))
        grown = np.pad(weights, ((0, 0), (0, height), (0, width), (0, 0)))
        self.graph.read(conv, 1, self.graph.copy(int(conv.inputs[1]), grown, "grown"))
        self.fold(operator, conv)


class TrimPad(PadRule):
    """Rows and columns of zeros at the far side that a strided convolution does not read."""

    def check_axes(self, operator: Any, conv: Any) -> str:
        if self.is_same(conv):
            return "the convolution pads, too"
        return "" if any(map(any, self._unread(operator, conv))) else "all of it is read"

    def _unread(self, operator: Any, conv: Any) -> list[list[int]]:
        padded, pads = self.graph.shape(int(operator.outputs[0])), self.graph.constant(int(operator.inputs[1]))
        assert pads is not None
        unread = [
            min(padded[number] - axis.last, int(pads[number][1]))
            for number, axis in enumerate(self.axes(operator, conv), 1)
        ]
        return [[0, 0], [0, unread[0]], [0, unread[1]], [0, 0]]

    def rewrite(self, operator: Any) -> None:
        graph, output = self.graph, int(operator.outputs[0])
        conv, pads = graph.only_reader(output), graph.constant(int(operator.inputs[1]))
        assert pads is not None
        unread = np.array(self._unread(operator, conv), pads.dtype)
        graph.read(operator, 1, graph.copy(int(operator.inputs[1]), pads - unread, "trimmed"))
        graph.resize(
            output, tuple(size - int(rows.sum()) for size, rows in zip(graph.shape(output), unread, strict=True))
        )
