"""Gather, scatter, slice and pad."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, as_list, operator, scalar


def _from_front(indices: Tensor, size: Any) -> Tensor:
    """ONNX counts negative indices from the end."""
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather", optional_shape_inputs=(1,))
def gather(node: Node, x: Tensor, indices: Any) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    if isinstance(indices, list):
        indices = torch.tensor([i + x.shape[axis] if i < 0 else i for i in indices], dtype=torch.int64)
    elif not isinstance(indices, Tensor):
        return x.select(axis, indices)
    else:
        indices = _from_front(indices, x.shape[axis])
    if axis == 0 and x.ndim == 2:
        return functional.embedding(indices, x)
    picked = x.index_select(axis, indices.flatten())
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(x, axis, _from_front(indices, x.shape[axis]).long())


@operator("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    skipped = node.get("batch_dims", 0)
    if skipped > 1:
        raise node.conversion_error("it gathers within more than one batch axis")
    positions = [_from_front(i, size).long() for i, size in zip(indices.unbind(-1), x.shape[skipped:], strict=False)]
    if skipped:
        rows = torch.arange(x.shape[0]).reshape(-1, *[1] * (indices.ndim - 2))
        positions = [rows, *positions]
    return x[tuple(positions)]


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, reduction = node.get("axis", 0), node.get("reduction", "none")
    indices = _from_front(indices, x.shape[axis]).long()
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, _REDUCTIONS[reduction])


@operator("ScatterND")
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = node.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise node.conversion_error(f"the reduction {reduction} is not supported")
    positions = [_from_front(i, size).long() for i, size in zip(indices.unbind(-1), x.shape, strict=False)]
    return x.index_put(tuple(positions), updates, accumulate=reduction == "add")


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("OneHot", shape_inputs=(1,))
def one_hot(node: Node, indices: Tensor, depth: Any, values: Tensor) -> Tensor:
    """`values`: off, on. Indices out of range give a row of off."""
    count, axis = int(scalar(depth)), node.get("axis", -1)
    indices = indices.long()
    indices = torch.where(indices < 0, indices + count, indices)
    hot = indices.unsqueeze(-1) == torch.arange(count)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


@operator("Slice", shape_inputs=(1, 2, 3, 4))
def slices(node: Node, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Tensor:
    """Ranges along axes, attributes before opset 10; a negative step walks backwards."""
    starts, ends = (node.get(name) if v is None else as_list(v) for name, v in (("starts", starts), ("ends", ends)))
    axes = as_list(axes) if axes is not None else node.get("axes", range(len(starts)))
    steps = [1] * len(starts) if steps is None else as_list(steps)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= x.ndim
        if step < 0:  # torch supports positive steps only
            size = x.shape[axis]
            first, stop, _ = slice(start, end, step).indices(size)
            x, start, end, step = x.flip(axis), size - 1 - first, size - 1 - stop, -step
        x = x[(slice(None),) * axis + (slice(start, end, step),)]
    return x


@operator("Pad", shape_inputs=(1, 3), optional_shape_inputs=(2,))
def pad(node: Node, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    pads = node.get("pads", node.get("paddings")) if pads is None else as_list(pads)
    rank = len(pads) // 2
    positions = [axis % x.ndim for axis in as_list(axes)] if axes is not None else list(range(rank))
    begin, end = dict(zip(positions, pads[:rank], strict=True)), dict(zip(positions, pads[rank:], strict=True))
    mode = node.get("mode", "constant")
    if mode == "constant":
        fill = node.get("value", 0.0) if value is None else scalar(value)
        if isinstance(fill, Tensor):
            raise node.conversion_error("its padding value is computed from the data")
        last_first = [n for axis in reversed(range(x.ndim)) for n in (begin.get(axis, 0), end.get(axis, 0))]
        return functional.pad(x, last_first, value=fill)
    moved = [axis for axis in positions if begin[axis] or end[axis]]
    if x.ndim == 4 and mode in ("reflect", "edge") and all(axis >= 2 for axis in moved):
        last_first = [n for axis in (3, 2) for n in (begin.get(axis, 0), end.get(axis, 0))]
        if min(last_first) >= 0:
            return functional.pad(x, last_first, mode="reflect" if mode == "reflect" else "replicate")
    for axis in moved:
        size = x.shape[axis]
        indices = [_source_index(i, size, mode) for i in range(-begin[axis], size + end[axis])]
        x = x.index_select(axis, torch.tensor(indices))
    return x


def _source_index(index: int, size: int, mode: str) -> int:
    """The index inside the tensor whose value pads `index`."""
    if mode == "edge":
        return min(max(index, 0), size - 1)
    if mode == "wrap":
        return index % size
    period = 2 * (size - 1)  # reflect
    index = index % period if period else 0
    return index if index < size else period - index
