"""The layers of a torch program that have weights, whatever operator computes them, and those weights as matrices.

A layer multiplies a matrix `[out, in x taps]` per group with the columns of its input: the patches under the kernel of
a convolution, the vectors that go into a linear layer. Every method of the weight side works on these two.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional as F

aten = torch.ops.aten
_CONVOLUTIONS = {aten.convolution.default}
_CONVOLUTIONS |= {getattr(getattr(aten, f"conv{d}d"), kind) for d in (1, 2, 3) for kind in ("default", "padding")}
_TRANSPOSED = {aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input}
#: x @ weight, the weight `[in, out]`
_PRODUCTS = {aten.addmm.default, aten.mm.default, aten.matmul.default}


@dataclass(frozen=True)
class Layer:
    """One operator with a weight that nobody else reads.

    `kind`: "conv" has weights `[out, in / groups, *taps]`, "transposed" `[in, out / groups, *taps]`, "linear"
    `[out, in]`, "product" `[in, out]`.
    """

    module: GraphModule
    node: Node
    kind: Literal["conv", "transposed", "linear", "product"]
    input: Node
    weight: Node
    bias: Node | None
    groups: int = 1

    @property
    def name(self) -> str:
        """The weight's name, as the network's source calls it."""
        return str(self.weight.target)

    def values(self, node: Node) -> Tensor:
        """The tensor behind `weight` or `bias`."""
        tensor: Tensor = attribute(self.module, str(node.target))
        return tensor

    @property
    def axis(self) -> int:
        """The axis of the output's channels."""
        return 1 if self.kind in ("conv", "transposed") else int(self.node.meta["val"].ndim) - 1

    def matrix(self) -> Tensor:
        """A copy of the weights, `[groups, out / groups, in / groups x taps]`."""
        return self._ordered().flatten(2).clone()

    def assign(self, matrix: Tensor) -> None:
        """Put a matrix of that shape in their place."""
        self.values(self.weight).detach().copy_(self.to_weight_layout(matrix))

    def to_weight_layout(self, matrix: Tensor) -> Tensor:
        """A matrix of that shape as the operator takes its weights; differentiable."""
        if self.kind == "product":
            return matrix[0].T
        shape = self.values(self.weight).shape
        if self.kind == "transposed":
            return matrix.reshape(*matrix.shape[:2], -1, *shape[2:]).transpose(1, 2).reshape(shape)
        return matrix.reshape(shape)

    def scale_outputs(self, factor: Tensor) -> None:
        """Multiply the weights of each output channel, of `[out]`; the bias is left alone."""
        ordered = self._ordered()
        ordered.copy_(ordered * factor.reshape(*ordered.shape[:2], 1, *[1] * (ordered.ndim - 3)))

    def scale_inputs(self, factor: Tensor) -> None:
        """Multiply the weights that read each input channel, of `[in]`."""
        ordered = self._ordered()
        ordered.copy_(ordered * factor.reshape(self.groups, 1, -1, *[1] * (ordered.ndim - 3)))

    def input_ranges(self) -> Tensor:
        """The largest magnitude that reads each input channel, `[in]`."""
        ordered = self._ordered()
        return ordered.reshape(*ordered.shape[:3], -1).abs().amax((1, 3)).reshape(-1)

    def output_ranges(self) -> Tensor:
        """The largest magnitude of each output channel's weights, `[out]`."""
        return self._ordered().flatten(2).abs().amax(2).reshape(-1)

    def columns(self, value: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """`[groups, in / groups x taps, n]`: what the matrix is multiplied with, at n <= `count` places at random."""
        if self.kind in ("linear", "product"):
            rows = value.reshape(-1, value.shape[-1])
            return rows[_chosen(len(rows), count, generator)].T[None]
        patches, places = self._patches(value)
        index = torch.unravel_index(_chosen(math.prod(places), count, generator), places)
        where: Any = (index[0], slice(None), *index[1:])
        taken = patches[where]  # [n, in, *taps]
        return taken.reshape(len(taken), self.groups, -1).permute(1, 2, 0)

    def _patches(self, value: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """A view `[samples, in, *places, *taps]` of what lies under the kernel; the sizes of (samples, *places)."""
        args = arguments(self.node)
        taps = self.values(self.weight).shape[2:]
        rank = len(taps)
        dilation = _each(args["dilation"], rank)
        spread = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        if self.kind == "transposed":
            value, before, after = self._zero_inserted(value, spread, rank)
            stride = [1] * rank
        else:
            before, after = _padding(args["padding"], spread, rank)
            stride = _each(args["stride"], rank)
        if any(before) or any(after):
            value = F.pad(value, [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair])
        for axis in range(rank):
            value = value.unfold(2 + axis, spread[axis] + 1, stride[axis])
        taken: Any = (..., *(slice(None, None, d) for d in dilation))
        value = value[taken]
        if self.kind == "transposed":
            value = value.flip(list(range(-rank, 0)))
        return value, (value.shape[0], *value.shape[2 : 2 + rank])

    def _zero_inserted(self, value: Tensor, spread: list[int], rank: int) -> tuple[Tensor, list[int], list[int]]:
        """A transposed convolution is a plain one of the input with zeros between, its kernel turned round."""
        args = arguments(self.node)
        stride, padding = _each(args["stride"], rank), _each(args["padding"], rank)
        extra = _each(args["output_padding"], rank)
        sizes = [(size - 1) * s + 1 for size, s in zip(value.shape[2:], stride, strict=True)]
        stuffed = value.new_zeros(*value.shape[:2], *sizes)
        spaced: Any = (..., *(slice(None, None, s) for s in stride))
        stuffed[spaced] = value
        before = [reach - p for reach, p in zip(spread, padding, strict=True)]
        return stuffed, before, [b + e for b, e in zip(before, extra, strict=True)]

    def _ordered(self) -> Tensor:
        """A view of the weights, `[groups, out / groups, in / groups, *taps]`."""
        weight = self.values(self.weight).detach()
        if self.kind == "product":
            weight = weight.T
        ordered = weight.reshape(self.groups, -1, *weight.shape[1:])
        return ordered.transpose(1, 2) if self.kind == "transposed" else ordered


def find(module: GraphModule) -> list[Layer]:
    """Every layer of the program, in the order in which it runs; one that shares its weight is none."""
    readers: Counter[Any] = Counter()
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers[_place(module, node)] += len(node.users)
    layers = (_layer(module, node) for node in module.graph.nodes if node.op == "call_function")
    return [
        layer
        for layer in layers
        if layer and all(readers[_place(module, one)] == 1 for one in (layer.weight, layer.bias) if one is not None)
    ]


def arguments(node: Node) -> dict[str, Any]:
    """Argument name → value of a node that calls an operator, defaults filled in."""
    declared = node.target._schema.arguments  # type: ignore[union-attr]
    passed = dict(zip((argument.name for argument in declared), node.args, strict=False)) | dict(node.kwargs)
    return {argument.name: passed.get(argument.name, argument.default_value) for argument in declared}


def set_argument(node: Node, name: str, value: Any) -> None:
    """Give an operator one of its optional arguments, those before it being given by position."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    place = names.index(name)
    if place < len(node.args):
        node.update_arg(place, value)
    elif place == len(node.args) and name not in node.kwargs:
        node.args = (*node.args, value)
    else:
        node.update_kwarg(name, value)


def attribute(module: torch.nn.Module, target: str) -> Any:
    """What a get_attr node names: "features.0.weight"."""
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _place(module: GraphModule, node: Node) -> Any:
    """The same for two names of one tensor."""
    value = attribute(module, str(node.target))
    return value.data_ptr() if isinstance(value, Tensor) and value.numel() else node.target


def _layer(module: GraphModule, node: Node) -> Layer | None:
    target = node.target
    if target not in _CONVOLUTIONS | _TRANSPOSED | _PRODUCTS | {aten.linear.default}:
        return None
    args = arguments(node)
    kind: Literal["conv", "transposed", "linear", "product"] = "linear"
    value: Any = args.get("input")
    weight: Any = args.get("weight")
    bias: Any = args.get("bias")
    if target in _PRODUCTS:
        kind = "product"
        value, weight = args.get("mat1", args.get("self")), args.get("mat2", args.get("other"))
        bias = args["self"] if target is aten.addmm.default else None
        if target is aten.addmm.default and (args["beta"], args["alpha"]) != (1, 1):
            return None
    elif target is not aten.linear.default:
        kind = "transposed" if target in _TRANSPOSED or args.get("transposed") else "conv"
    if not _is_constant(weight) or not (bias is None or _is_constant(bias)) or not isinstance(value, Node):
        return None
    tensor = attribute(module, str(weight.target))
    if value.op == "get_attr" or tensor.dtype != torch.float32 or (kind in ("linear", "product") and tensor.ndim != 2):
        return None
    if bias is not None and attribute(module, str(bias.target)).ndim != 1:
        return None
    if kind in ("conv", "transposed") and value.meta["val"].ndim != tensor.ndim:
        return None  # a single sample without its batch
    return Layer(module, node, kind, value, weight, bias, args.get("groups", 1))


def _is_constant(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _each(value: Any, rank: int) -> list[int]:
    """One number per axis, where one may stand for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _padding(padding: Any, spread: list[int], rank: int) -> tuple[list[int], list[int]]:
    """Zeros before and after each axis; "same" puts the odd one last."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        return [reach // 2 for reach in spread], [reach - reach // 2 for reach in spread]
    return _each(padding, rank), _each(padding, rank)


def _chosen(total: int, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` indices below `total`, none twice."""
    return torch.arange(total) if total <= count else torch.randperm(total, generator=generator)[:count]
