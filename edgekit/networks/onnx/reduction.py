"""Reductions, argmax and argmin, top-k, cumulative sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgekit.networks.onnx.operators import Node, as_list, operator, scalar


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """torch.prod takes one axis at a time."""
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


_REDUCE: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(dim=axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(dim=axes, keepdim=keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(dim=axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, dim=axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(dim=axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(dim=axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(dim=axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keep: x.sum(dim=axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(dim=axes, keepdim=keep),
}


def _register(type: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @operator(type, shape_inputs=(1,))
    def reduced(node: Node, x: Tensor, axes: Any = None) -> Tensor:
        """Axes are an attribute in older opsets; no axes mean all, or none with noop_with_empty_axes."""
        axes = node.get("axes") if axes is None else as_list(axes)
        if not axes and node.get("noop_with_empty_axes", 0):
            return x
        result = function(x, list(axes or range(x.ndim)), bool(node.get("keepdims", 1)))
        return result.to(x.dtype)


for _type, _function in _REDUCE.items():
    _register(_type, _function)


@operator("ArgMax", "ArgMin")
def argument(node: Node, x: Tensor) -> Tensor:
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    find = torch.argmax if node.type == "ArgMax" else torch.argmin
    if node.get("select_last_index", 0):
        return torch.rsub(find(x.flip(axis), dim=axis, keepdim=keep), x.shape[axis] - 1)
    return find(x, dim=axis, keepdim=keep)


@operator("TopK", shape_inputs=(1,))
def top_k(node: Node, x: Tensor, count: Any = None) -> tuple[Tensor, Tensor]:
    """Equal values are ordered by index, which torch.topk does not guarantee."""
    k = node.get("k") if count is None else scalar(count)
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


@operator("CumSum", shape_inputs=(1,))
def cumulative_sum(node: Node, x: Tensor, axis: Any) -> Tensor:
    axis = scalar(axis)
    x = x.flip(axis) if node.get("reverse", 0) else x
    result = x.cumsum(dim=axis).to(x.dtype)
    result = result - x if node.get("exclusive", 0) else result
    return result.flip(axis) if node.get("reverse", 0) else result
