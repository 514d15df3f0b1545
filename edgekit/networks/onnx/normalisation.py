"""Normalisation over batches, channels, groups and axes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, operator


@operator("BatchNormalization")
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.get("training_mode", 0) or not node.get("spatial", 1) or (node.opset < 14 and node.has_output(1)):
        raise node.conversion_error("it is in training mode: export the model for inference")
    return functional.batch_norm(x, mean, variance, scale, bias, training=False, eps=node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    shape = x.shape[axis:]
    if not node.has_output(1) and not node.has_output(2):
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return functional.layer_norm(x, shape, scale, bias, epsilon)
        result = functional.layer_norm(x, shape, None, None, epsilon) * scale
        return result if bias is None else result + bias
    axes = list(range(axis % x.ndim, x.ndim))
    mean = x.mean(dim=axes, keepdim=True)
    inverse = torch.rsqrt(((x - mean) ** 2).mean(dim=axes, keepdim=True) + epsilon)
    result = (x - mean) * inverse * scale
    return (result if bias is None else result + bias), mean, inverse


@operator("RMSNormalization")
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(node.get("axis", -1) % x.ndim, x.ndim))
    mean = (x * x).mean(dim=axes, keepdim=True)
    return x / torch.sqrt(mean + node.get("epsilon", 1e-5)) * scale


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    axes = node.get("axes", [0, 2, 3])
    centred = x - x.mean(dim=axes, keepdim=True)
    return centred / (torch.sqrt((centred * centred).mean(dim=axes, keepdim=True)) + 1e-9)


@operator("GroupNormalization")
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, epsilon = node.get("num_groups"), node.get("epsilon", 1e-5)
    if node.opset < 21:  # one scale per group
        scale, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, epsilon)


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    return functional.normalize(x, p=node.get("p", 2), dim=node.get("axis", -1), eps=1e-12)


@operator("LRN")
def local_response_normalization(node: Node, x: Tensor) -> Tensor:
    """Over `size` neighbouring channels; torch's operator shifts an even window by one channel."""
    size, channels = node.get("size"), x.shape[1]
    squares = functional.pad(x * x, [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2])
    sums = squares.narrow(1, 0, channels)
    for offset in range(1, size):
        sums = sums + squares.narrow(1, offset, channels)
    denominator = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * sums
    result: Tensor = x / denominator ** node.get("beta", 0.75)
    return result
