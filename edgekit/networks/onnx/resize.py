"""Resizing: every coordinate rule of ONNX for nearest and linear; cubic where torch's own is the same."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, many, operator

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@operator("Upsample", control=(1,))
def upsample(node: Node, x: Tensor, scales: Any = None) -> Tensor:
    factors = node.get("scales") if scales is None else many(scales)
    mode = "linear" if "linear" in node.get("mode", "nearest") else "nearest"
    return _resized(node, x, mode, "asymmetric", "floor", list(range(x.ndim)), factors, None)


@operator("Resize", control=(1, 2, 3))
def resize(node: Node, x: Tensor, *arguments: Any) -> Tensor:
    """Opset 10 has scales only, and what is now called asymmetric; later ones a region of interest before them."""
    if node.opset < 11:
        mode = node.get("mode", "nearest")
        return _resized(node, x, mode, "asymmetric", "floor", list(range(x.ndim)), many(arguments[0]), None)
    _, scales, sizes = (*arguments, None, None, None)[:3]
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refuse("torch has no counterpart for antialias or keep_aspect_ratio_policy")
    axes = [axis % x.ndim for axis in node.get("axes", range(x.ndim))]
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    nearest = node.get("nearest_mode", "round_prefer_floor")
    factors = many(scales) if scales is not None and many(scales) else None
    wanted = many(sizes) if sizes is not None and many(sizes) else None
    return _resized(node, x, node.get("mode", "nearest"), coordinates, nearest, axes, factors, wanted)


def _resized(
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
        raise node.refuse("torch has no counterpart for tf_crop_and_resize")
    changed: dict[int, tuple[int, float]] = {}  # axis → new size, scale
    for place, axis in enumerate(axes):
        old = x.shape[axis]
        if sizes is not None:
            if old != sizes[place]:
                changed[axis] = (sizes[place], sizes[place] / old)
        elif scales is not None and scales[place] != 1:
            changed[axis] = (math.floor(old * scales[place]), scales[place])
    if not changed:
        return x
    whole = all(new == x.shape[axis] * scale for axis, (new, scale) in changed.items())
    trailing = x.ndim in _LINEAR and min(changed) >= 2
    target = [changed[axis][0] if axis in changed else x.shape[axis] for axis in range(2, x.ndim)]
    if coordinates == "align_corners" and not whole:
        raise node.refuse("runtimes differ on align_corners where a size times its scale is no whole number")
    if mode == "cubic":
        plain = node.get("cubic_coeff_a", -0.75) == -0.75 and not node.get("exclude_outside", 0)
        if not (plain and whole and x.ndim == 4 and trailing and coordinates in ("half_pixel", "align_corners")):
            raise node.refuse("torch has no cubic interpolation of this kind")
        aligned = coordinates == "align_corners"
        return functional.interpolate(x, target, mode="bicubic", align_corners=aligned)
    if mode == "linear" and trailing:
        clear = coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and 1 not in target)
        if whole and (clear or coordinates == "align_corners"):
            aligned = coordinates == "align_corners"
            return functional.interpolate(x, target, mode=_LINEAR[x.ndim], align_corners=aligned)
    places = {
        axis: [_place(i, x.shape[axis], new, scale, coordinates) for i in range(new)]
        for axis, (new, scale) in changed.items()
    }
    if mode == "linear":
        for axis, at in places.items():
            x = (x.movedim(axis, -1) @ _weights(at, x.shape[axis]).to(x.dtype).t()).movedim(-1, axis)
        return x
    picked = {axis: [_rounded(p, x.shape[axis], nearest) for p in at] for axis, at in places.items()}
    own = {axis: [i * x.shape[axis] // len(p) for i in range(len(p))] for axis, p in picked.items()}
    if trailing and picked == own:
        return functional.interpolate(x, target, mode="nearest")
    for axis, indices in picked.items():
        x = x.index_select(axis, torch.tensor(indices))
    return x


def _place(index: int, old: int, new: int, scale: float, coordinates: str) -> float:
    """Where an output's place lies in the input (ONNX, Resize, coordinate_transformation_mode)."""
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


def _rounded(place: float, size: int, mode: str) -> int:
    place = round(place, 6)  # a third of a pixel three times over is a whole one
    if mode == "floor":
        index = math.floor(place)
    elif mode == "ceil":
        index = math.ceil(place)
    elif mode == "round_prefer_ceil":
        index = math.floor(place + 0.5)
    else:
        index = math.ceil(place - 0.5)
    return min(max(index, 0), size - 1)


def _weights(places: list[float], size: int) -> Tensor:
    """(new, old): each row blends the two neighbours of a place; outside, the edge goes on."""
    matrix = torch.zeros(len(places), size)
    for row, place in enumerate(places):
        low = math.floor(place)
        for index, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
            matrix[row, min(max(index, 0), size - 1)] += weight
    return matrix
