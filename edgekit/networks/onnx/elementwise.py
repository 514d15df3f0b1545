"""Elementwise operators with broadcasting: activations, arithmetic, comparisons and logic."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, dtype, operator, scalar

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}


def _division(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Div": _division,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}


def _register_unary(type: str, function: Callable[[Tensor], Tensor]) -> None:
    @operator(type)
    def unary(node: Node, x: Tensor) -> Tensor:
        return function(x)


def _register_binary(type: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operator(type)
    def binary(node: Node, a: Tensor, b: Tensor) -> Tensor:
        if node.get("broadcast"):  # before opset 7: b is aligned with a from `axis` on
            axis = node.get("axis", a.ndim - b.ndim)
            b = b.reshape([*b.shape, *[1] * (a.ndim - axis - b.ndim)])
        return function(a, b)


for _type, _one in _UNARY.items():
    _register_unary(_type, _one)
for _type, _two in _BINARY.items():
    _register_binary(_type, _two)


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("Dropout", optional_shape_inputs=(2,))
def dropout(node: Node, x: Tensor, ratio: Tensor | None = None, training: Any = None) -> Any:
    """The identity outside training; its mask is all ones."""
    if training is not None and scalar(training) is not False:
        raise node.conversion_error("it is in training mode: export the model for inference")
    return (x, torch.ones_like(x, dtype=torch.bool)) if node.has_output(1) else x


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    channels = x.shape[1] if x.ndim > 1 else 1
    per_channel = node.opset < 7 or slope.ndim == x.ndim - 1  # before opset 7, one slope per channel
    if slope.numel() == 1 or (per_channel and slope.shape[0] == channels == slope.numel()):
        return functional.prelu(x, slope.flatten())
    return torch.where(x < 0, slope * x, x)


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return functional.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    rectified: Tensor = gamma * functional.elu(x, alpha)
    return rectified


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.get("approximate", "none"))


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@operator("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)
    inner = torch.where(x > limit, x - bias, torch.zeros_like(x))
    return torch.where(x < -limit, x + bias, inner).to(x.dtype)


@operator("Softmax", "LogSoftmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    function = torch.softmax if node.type == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        return function(x, dim=node.get("axis", -1))
    axis = node.get("axis", 1)  # before opset 13, over everything from this axis on
    if axis in (-1, x.ndim - 1):
        return function(x, dim=-1)
    return function(x.flatten(axis), dim=-1).reshape(x.shape)


@operator("Clip", optional_shape_inputs=(1, 2))
def clip(node: Node, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low = node.get("min") if low is None else scalar(low)
    high = node.get("max") if high is None else scalar(high)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        low, high = (torch.as_tensor(v, dtype=x.dtype) if v is not None else None for v in (low, high))
    return x if low is None and high is None else torch.clamp(x, low, high)


@operator("Pow", optional_shape_inputs=(1,))
def power(node: Node, x: Tensor, exponent: Any) -> Tensor:
    if isinstance(exponent, list) and len(exponent) == 1 and x.ndim > 0:
        exponent = exponent[0]
    if isinstance(exponent, list):
        exponent = torch.tensor(exponent)
    return torch.pow(x, exponent).to(x.dtype)


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Max")
def maximum(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.maximum, tensors)


@operator("Min")
def minimum(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.minimum, tensors)


@operator("Sum")
def total(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors)


@operator("Mean")
def mean(node: Node, *tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


@operator("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


@operator("IsInf")
def is_inf(node: Node, x: Tensor) -> Tensor:
    negative = torch.isneginf(x) if node.get("detect_negative", 1) else torch.zeros_like(x, dtype=torch.bool)
    return negative | torch.isposinf(x) if node.get("detect_positive", 1) else negative


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    return x.to(dtype(node, node.get("to")))


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)
