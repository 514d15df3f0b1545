"""The layers of a torch program that have weights, for all operators, with their weights as matrices.

A layer multiplies a matrix `[out, in x taps]` per group with the columns of its input (im2col): the patches under a
convolution's kernel, the input vectors of a linear layer. Every method that changes weights works on these two.
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
    """One operator with a weight that no other operator reads.

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
        """The weight's name in the network's source."""
        return str(self.weight.target)

    def values(self, node: Node) -> Tensor:
        """The tensor of `weight` or `bias`."""
        tensor: Tensor = attribute(self.module, str(node.target))
        return tensor

    @property
    def axis(self) -> int:
        """The output's channel axis."""
        return 1 if self.kind in ("conv", "transposed") else int(self.node.meta["val"].ndim) - 1

    @property
    def inputs(self) -> tuple[int, ...]:
        """The weights of one output channel: `(in / groups, *taps)`."""
        return tuple(self._ordered().shape[2:])

    @property
    def depthwise(self) -> bool:
        """Is it a convolution with one input and one output per group?"""
        return self.kind == "conv" and self.groups > 1 and self._ordered().shape[1:3] == (1, 1)

    def matrix(self) -> Tensor:
        """A copy of the weights, `[groups, out / groups, in / groups x taps]`."""
        return self._ordered().flatten(2).clone()

    def assign(self, matrix: Tensor) -> None:
        """Replace the weights by a matrix of that shape."""
        self.values(self.weight).detach().copy_(self.as_weight(matrix))

    def as_weight(self, matrix: Tensor) -> Tensor:
        """A matrix of that shape in the operator's own layout of weights; differentiable."""
        if self.kind == "product":
            return matrix[0].T
        shape = self.values(self.weight).shape
        if self.kind == "transposed":
            return matrix.reshape(*matrix.shape[:2], -1, *shape[2:]).transpose(1, 2).reshape(shape)
        return matrix.reshape(shape)

    def scale_outputs(self, factor: Tensor) -> None:
        """Multiply the weights of each output channel by `factor` `[out]`; the bias is unchanged."""
        ordered = self._ordered()
        ordered.copy_(ordered * factor.reshape(*ordered.shape[:2], 1, *[1] * (ordered.ndim - 3)))

    def scale_inputs(self, factor: Tensor) -> None:
        """Multiply the weights that read each input channel by `factor` `[in]`."""
        ordered = self._ordered()
        ordered.copy_(ordered * factor.reshape(self.groups, 1, -1, *[1] * (ordered.ndim - 3)))

    def input_ranges(self) -> Tensor:
        """The largest magnitude of the weights that read each input channel, `[in]`."""
        ordered = self._ordered()
        return ordered.reshape(*ordered.shape[:3], -1).abs().amax((1, 3)).reshape(-1)

    def output_ranges(self) -> Tensor:
        """The largest magnitude of each output channel's weights, `[out]`."""
        return self._ordered().flatten(2).abs().amax(2).reshape(-1)

    def im2col(self, value: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """im2col: the columns that the matrix multiplies, `[groups, in / groups x taps, n]`, at n <= `count` random
        positions."""
        if self.kind in ("linear", "product"):
            rows = value.reshape(-1, value.shape[-1])
            return rows[_chosen(len(rows), count, generator)].T[None]
        patches, places = self._patches(value)
        index = torch.unravel_index(_chosen(math.prod(places), count, generator), places)
        where: Any = (index[0], slice(None), *index[1:])
        taken = patches[where]  # [n, in, *taps]
        return taken.reshape(len(taken), self.groups, -1).permute(1, 2, 0)

    def _patches(self, value: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """A view `[samples, in, *positions, *taps]` of the kernel's patches; the sizes of (samples, *positions)."""
        options = arguments(self.node)
        taps = self.values(self.weight).shape[2:]
        rank = len(taps)
        dilation = _each(options["dilation"], rank)
        spread = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        if self.kind == "transposed":
            value, before, after = self._zero_inserted(value, spread, rank)
            stride = [1] * rank
        else:
            before, after = _padding(options["padding"], spread, rank)
            stride = _each(options["stride"], rank)
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
        """The input with zeros inserted: a transposed convolution is a convolution of that with the flipped kernel."""
        options = arguments(self.node)
        stride, padding = _each(options["stride"], rank), _each(options["padding"], rank)
        extra = _each(options["output_padding"], rank)
        sizes = [(size - 1) * s + 1 for size, s in zip(value.shape[2:], stride, strict=True)]
        inserted = value.new_zeros(*value.shape[:2], *sizes)
        spaced: Any = (..., *(slice(None, None, s) for s in stride))
        inserted[spaced] = value
        before = [reach - p for reach, p in zip(spread, padding, strict=True)]
        return inserted, before, [b + e for b, e in zip(before, extra, strict=True)]

    def _ordered(self) -> Tensor:
        """A view of the weights, `[groups, out / groups, in / groups, *taps]`."""
        weight = self.values(self.weight).detach()
        if self.kind == "product":
            weight = weight.T
        ordered = weight.reshape(self.groups, -1, *weight.shape[1:])
        return ordered.transpose(1, 2) if self.kind == "transposed" else ordered


def find(module: GraphModule) -> list[Layer]:
    """Every layer of the program in execution order, without those that share their weight."""
    readers: Counter[Any] = Counter()
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers[_place(module, node)] += len(node.users)
    candidates = (_layer(module, node) for node in module.graph.nodes if node.op == "call_function")
    return [
        layer
        for layer in candidates
        if layer and all(readers[_place(module, one)] == 1 for one in (layer.weight, layer.bias) if one is not None)
    ]


def arguments(node: Node) -> dict[str, Any]:
    """Argument name → value of a node that calls an operator, including defaults."""
    declared = node.target._schema.arguments  # type: ignore[union-attr]
    values = dict(zip((argument.name for argument in declared), node.args, strict=False)) | dict(node.kwargs)
    return {argument.name: values.get(argument.name, argument.default_value) for argument in declared}


def set_argument(node: Node, name: str, value: Any) -> None:
    """Set one of an operator's optional arguments; the arguments before it are positional."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    place = names.index(name)
    if place < len(node.args):
        node.update_arg(place, value)
    elif place == len(node.args) and name not in node.kwargs:
        node.args = (*node.args, value)
    else:
        node.update_kwarg(name, value)


def attribute(module: torch.nn.Module, target: str) -> Any:
    """The attribute that a get_attr node names: "features.0.weight"."""
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _place(module: GraphModule, node: Node) -> Any:
    """A key that is equal for two names of one tensor."""
    value = attribute(module, str(node.target))
    return value.data_ptr() if isinstance(value, Tensor) and value.numel() else node.target


def _layer(module: GraphModule, node: Node) -> Layer | None:
    target = node.target
    if target not in _CONVOLUTIONS | _TRANSPOSED | _PRODUCTS | {aten.linear.default}:
        return None
    options = arguments(node)
    kind: Literal["conv", "transposed", "linear", "product"] = "linear"
    value: Any = options.get("input")
    weight: Any = options.get("weight")
    bias: Any = options.get("bias")
    if target in _PRODUCTS:
        kind = "product"
        value, weight = options.get("mat1", options.get("self")), options.get("mat2", options.get("other"))
        bias = options["self"] if target is aten.addmm.default else None
        if target is aten.addmm.default and (options["beta"], options["alpha"]) != (1, 1):
            return None
    elif target is not aten.linear.default:
        kind = "transposed" if target in _TRANSPOSED or options.get("transposed") else "conv"
    if not _is_constant(weight) or not (bias is None or _is_constant(bias)) or not isinstance(value, Node):
        return None
    tensor = attribute(module, str(weight.target))
    if value.op == "get_attr" or tensor.dtype != torch.float32 or (kind in ("linear", "product") and tensor.ndim != 2):
        return None
    if bias is not None and attribute(module, str(bias.target)).ndim != 1:
        return None
    if kind in ("conv", "transposed") and value.meta["val"].ndim != tensor.ndim:
        return None  # a single sample without a batch axis
    return Layer(module, node, kind, value, weight, bias, options.get("groups", 1))


def _is_constant(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _each(value: Any, rank: int) -> list[int]:
    """One number per axis; a single number is repeated."""
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _padding(padding: Any, spread: list[int], rank: int) -> tuple[list[int], list[int]]:
    """Zeros before and after each axis; for "same", an odd zero is added at the end."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        return [reach // 2 for reach in spread], [reach - reach // 2 for reach in spread]
    return _each(padding, rank), _each(padding, rank)


def _chosen(total: int, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` distinct indices below `total`."""
    return torch.arange(total) if total <= count else torch.randperm(total, generator=generator)[:count]
