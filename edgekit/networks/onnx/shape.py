"""Shape operators: reading and changing shapes, and creating tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, as_list, dtype, operator, scalar


@operator("Shape")
def shape(node: Node, x: Tensor) -> list[Any]:
    return list(x.shape)[node.get("start", 0) : node.get("end")]


@operator("Size")
def size(node: Node, x: Tensor) -> Any:
    count: Any = 1
    for length in x.shape:
        count = count * length
    return count


@operator("Constant")
def constant(node: Node) -> Tensor:
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            kind = torch.float32 if "float" in name else torch.int64
            return torch.tensor(node.attributes[name], dtype=kind)
    if "value" not in node.attributes:
        raise node.conversion_error("it holds text, or a sparse tensor")
    value: Tensor = node.attributes["value"]
    return value


@operator("ConstantOfShape", shape_inputs=(0,))
def constant_of_shape(node: Node, sizes: Any) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return torch.full(as_list(sizes), value.item(), dtype=value.dtype)


@operator("Range", shape_inputs=(0, 1, 2))
def arange(node: Node, start: Any, limit: Any, delta: Any) -> Tensor:
    start, limit, delta = scalar(start), scalar(limit), scalar(delta)
    return torch.arange(start, limit, delta, dtype=torch.float32 if isinstance(start, float) else torch.int64)


@operator("EyeLike")
def eye_like(node: Node, x: Tensor) -> Tensor:
    kind = dtype(node, node.get("dtype")) if node.get("dtype") else x.dtype
    rows, columns = x.shape
    return torch.ones(rows, columns, dtype=kind).triu(node.get("k", 0)).tril(node.get("k", 0))


@operator("Reshape", shape_inputs=(1,))
def reshape(node: Node, x: Tensor, target: Any = None) -> Tensor:
    """0 keeps the size of an axis, -1 is inferred."""
    target = node.get("shape") if target is None else as_list(target)
    if not node.get("allowzero", 0):
        target = [x.shape[axis] if isinstance(n, int) and n == 0 else n for axis, n in enumerate(target)]
    return x.reshape(target)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    if axis == 0:
        return x.reshape(1, -1)
    return x.flatten(axis).flatten(0, axis - 1) if axis < x.ndim else x.reshape(-1, 1)


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or list(range(x.ndim))[::-1])


@operator("Squeeze", shape_inputs=(1,))
def squeeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    axes = node.get("axes") if axes is None else as_list(axes)
    if axes is None:
        axes = [axis for axis, length in enumerate(x.shape) if length == 1]
    return x.squeeze(tuple(axes))


@operator("Unsqueeze", shape_inputs=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    axes = node.get("axes") if axes is None else as_list(axes)
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", shape_inputs=(1,))
def expand(node: Node, x: Tensor, target: Any) -> Tensor:
    """Bidirectional broadcasting: a 1 in the target keeps the tensor's size."""
    target = as_list(target)
    target = [1] * (x.ndim - len(target)) + target
    offset = len(target) - x.ndim
    sizes = [-1 if isinstance(n, int) and n == 1 and axis >= offset else n for axis, n in enumerate(target)]
    return x.expand(sizes)


@operator("Tile", shape_inputs=(1, 2))
def tile(node: Node, x: Tensor, repeats: Any, axis: Any = None) -> Tensor:
    if axis is not None:  # before opset 6: a number of tiles along one axis
        return x.repeat([scalar(repeats) if position == scalar(axis) else 1 for position in range(x.ndim)])
    return x.repeat(as_list(repeats))


@operator("Concat")
def concat(node: Node, *tensors: Tensor) -> Tensor:
    return torch.cat(tensors, dim=node.get("axis", 1))


@operator("Split", shape_inputs=(1,))
def split(node: Node, x: Tensor, sizes: Any = None) -> tuple[Tensor, ...]:
    """By sizes (an attribute before opset 13), else evenly with a smaller last part."""
    axis = node.get("axis", 0)
    sizes = node.get("split") if sizes is None else as_list(sizes)
    if sizes is None:
        count = node.get("num_outputs", len(node.outputs))
        sizes = -(-x.shape[axis] // count)
    parts: tuple[Tensor, ...] = torch.split(x, sizes, dim=axis)
    return parts


@operator("Trilu", shape_inputs=(1,))
def trilu(node: Node, x: Tensor, k: Any = None) -> Tensor:
    diagonal = 0 if k is None else scalar(k)
    return x.triu(diagonal) if node.get("upper", 1) else x.tril(diagonal)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    batch, channels, height, width = x.shape
    depth = channels // block**2
    blocks = x.reshape(batch, block, block, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, depth, height * block, width * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_unshuffle(x, block)
    batch, channels, height, width = x.shape
    height, width = height // block, width // block
    blocks = x.reshape(batch, channels, height, block, width, block).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, channels * block**2, height, width)
