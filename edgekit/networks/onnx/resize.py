"""Resize: all of ONNX's coordinate modes for nearest and linear; cubic if torch's is identical."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, as_list, operator

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@operator("Upsample", shape_inputs=(1,))
def upsample(node: Node, x: Tensor, scales: Any = None) -> Tensor:
    factors = node.get("scales") if scales is None else as_list(scales)
    mode = "linear" if "linear" in node.get("mode", "nearest") else "nearest"
    return _resize(node, x, mode, "asymmetric", "floor", list(range(x.ndim)), factors, None)


@operator("Resize", shape_inputs=(1, 2, 3))
def resize(node: Node, x: Tensor, *arguments: Any) -> Tensor:
    """Opset 10 has scales and asymmetric coordinates only; later opsets have a region of interest first."""
    if node.opset < 11:
        mode = node.get("mode", "nearest")
        return _resize(node, x, mode, "asymmetric", "floor", list(range(x.ndim)), as_list(arguments[0]), None)
    _, scales, sizes = (*arguments, None, None, None)[:3]
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.conversion_error("torch has no counterpart for antialias or keep_aspect_ratio_policy")
    axes = [axis % x.ndim for axis in node.get("axes", range(x.ndim))]
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    nearest = node.get("nearest_mode", "round_prefer_floor")
    factors = as_list(scales) if scales is not None and as_list(scales) else None
    target_sizes = as_list(sizes) if sizes is not None and as_list(sizes) else None
    return _resize(node, x, node.get("mode", "nearest"), coordinates, nearest, axes, factors, target_sizes)


def _resize(
    node: Node,
    x: Tensor,
    mode: str,
    coordinates: str,
    nearest: str,
    axes: list[int],
    scales: list[float] | None,
    sizes: list[Any] | None,
) -> Tensor:
    if coordinates == "tf_crop_and_resize":
        raise node.conversion_error("torch has no counterpart for tf_crop_and_resize")
    changed: dict[int, tuple[int, float]] = {}  # axis → new size, scale
    for position, axis in enumerate(axes):
        old = x.shape[axis]
        if sizes is not None:
            if old != sizes[position]:
                changed[axis] = (sizes[position], sizes[position] / old)
        elif scales is not None and scales[position] != 1:
            changed[axis] = (math.floor(old * scales[position]), scales[position])
    if not changed:
        return x
    is_integer = all(new == x.shape[axis] * scale for axis, (new, scale) in changed.items())
    trailing = x.ndim in _LINEAR and min(changed) >= 2
    target = [changed[axis][0] if axis in changed else x.shape[axis] for axis in range(2, x.ndim)]
    if coordinates == "align_corners" and not is_integer:
        raise node.conversion_error("runtimes differ on align_corners if size times scale is not an integer")
    if mode == "cubic":
        plain = node.get("cubic_coeff_a", -0.75) == -0.75 and not node.get("exclude_outside", 0)
        if not (plain and is_integer and x.ndim == 4 and trailing and coordinates in ("half_pixel", "align_corners")):
            raise node.conversion_error("torch has no cubic interpolation of this kind")
        aligned = coordinates == "align_corners"
        return functional.interpolate(x, target, mode="bicubic", align_corners=aligned)
    if mode == "linear" and trailing:
        clear = coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and 1 not in target)
        if is_integer and (clear or coordinates == "align_corners"):
            aligned = coordinates == "align_corners"
            return functional.interpolate(x, target, mode=_LINEAR[x.ndim], align_corners=aligned)
    positions = {
        axis: [_source_coordinate(i, x.shape[axis], new, scale, coordinates) for i in range(new)]
        for axis, (new, scale) in changed.items()
    }
    if mode == "linear":
        for axis, at in positions.items():
            x = (x.movedim(axis, -1) @ _weights(at, x.shape[axis]).to(x.dtype).t()).movedim(-1, axis)
        return x
    picked = {axis: [_nearest_index(p, x.shape[axis], nearest) for p in at] for axis, at in positions.items()}
    own = {axis: [i * x.shape[axis] // len(p) for i in range(len(p))] for axis, p in picked.items()}
    if trailing and picked == own:
        return functional.interpolate(x, target, mode="nearest")
    for axis, indices in picked.items():
        x = x.index_select(axis, torch.tensor(indices))
    return x


def _source_coordinate(index: int, old: int, new: int, scale: float, coordinates: str) -> float:
    """The input coordinate of an output index (ONNX Resize, coordinate_transformation_mode)."""
    if coordinates == "align_corners":
        return index * (old - 1) / (new - 1) if new > 1 else 0.0
    if coordinates == "asymmetric":
        return index / scale
    if coordinates == "tf_half_pixel_for_nn":
        return (index + 0.5) / scale
    if coordinates == "pytorch_half_pixel" and new == 1:
        return 0.0
    offset = old / 2 * (1 - new / (scale * old)) if coordinates == "half_pixel_symmetric" else 0.0
    return offset + (index + 0.5) / scale - 0.5


def _nearest_index(position: float, size: int, mode: str) -> int:
    position = round(position, 6)  # removes floating-point errors, such as those of 3 * (1 / 3)
    if mode == "floor":
        index = math.floor(position)
    elif mode == "ceil":
        index = math.ceil(position)
    elif mode == "round_prefer_ceil":
        index = math.floor(position + 0.5)
    else:
        index = math.ceil(position - 0.5)
    return min(max(index, 0), size - 1)


def _weights(positions: list[float], size: int) -> Tensor:
    """(new, old) interpolation matrix: each row weighs two neighbours; outside, the edge value is used."""
    matrix = torch.zeros(len(positions), size)
    for row, position in enumerate(positions):
        low = math.floor(position)
        for index, weight in ((low, 1 - (position - low)), (low + 1, position - low)):
            matrix[row, min(max(index, 0), size - 1)] += weight
    return matrix
