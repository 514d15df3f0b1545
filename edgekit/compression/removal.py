"""Is a pruned network the original without the removed channels?

Both run on the same inputs. In the original, each pruned layer's outputs are replaced by those of the pruned network,
with marks at the removed channels. What each of these layers reads there, without the channels it lost, must be what it
reads in the pruned network; the same holds for the network's outputs. A roll, a flip or a split brings a mark, or
another channel, to where a kept one is expected.

The marks are zeros, for sums and products over channels. Where that fails they are NaN, and functions that depend on
the number of channels leave them out: means, variances, softmax and norms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from edgekit.compression import recurrent
from edgekit.networks.interface import close
from edgekit.networks.outputs import named_outputs

#: layers that return for zeros in place of the removed channels what they return without them
LINEAR: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Embedding,
    nn.PReLU,
)
LINEAR += recurrent.RECURRENT


@dataclass(frozen=True)
class Call:
    """Of a pruned layer: what it read, what it returned, and the same with noise."""

    reads: list[Any]
    returns: list[Any]
    noisy: list[Any]


@dataclass
class Kept:
    """The channels that a layer still has, as indices of the original's: of what it reads and what it returns."""

    reads: list[int] | None = None
    returns: list[int] | None = None


@dataclass
class Removal:
    """The channels removed so far, by the name of the layer. `original` is the network before, in eval mode."""

    original: nn.Module
    inputs: Sequence[Tensor]
    kept: dict[str, Kept] = field(default_factory=dict)

    def add(self, group: Any, names: dict[nn.Module, str]) -> None:
        """Record a group of Torch-Pruning that is about to be pruned."""
        layers = dict(self.original.named_modules())
        for dep, indices in group:
            name = names.get(dep.target.module)
            if name is None or name not in layers:
                continue
            kept, pruner = self.kept.setdefault(name, Kept()), dep.handler.__self__
            reads = "in_channels" in dep.handler.__name__
            if reads or type(pruner).prune_in_channels is type(pruner).prune_out_channels:
                kept.reads = _without(kept.reads, pruner.get_in_channels(layers[name]), indices)
            if not reads:
                kept.returns = _without(kept.returns, pruner.get_out_channels(layers[name]), indices)

    def is_right(self, pruned: nn.Module) -> bool:
        """Whether `pruned` is the original without these channels. Raises whatever a broken network raises."""
        with torch.no_grad():
            calls: dict[str, list[Call]] = {name: [] for name in self.kept}
            with _hooks(pruned, {name: _recorder(calls[name]) for name in self.kept}):
                expected = named_outputs(pruned(*self.inputs))
            return any(self._agrees(calls, expected, mark) for mark in (0.0, float("nan")))

    def _agrees(self, calls: dict[str, list[Call]], expected: dict[str, Tensor], mark: float) -> bool:
        replays = {name: _replay(iter(calls[name]), kept, mark) for name, kept in self.kept.items()}
        try:
            with _hooks(self.original, replays), nullcontext() if mark == 0 else _Unmarked():
                outputs = named_outputs(self.original(*self.inputs))
        except _Differs:
            return False
        return all(_same(outputs[name], tensor, 1e-5) for name, tensor in expected.items())

    def mixed(self) -> str:
        """The name of a layer whose channels changed their group or head; "" if there is none.

        To be asked when all is pruned: one branch of a concatenation may lose its channels before another.
        """
        layers = dict(self.original.named_modules())
        return next((name for name, kept in self.kept.items() if not _evenly(layers[name], kept.reads)), "")


def _evenly(layer: nn.Module, kept: list[int] | None) -> bool:
    """Does each group of a norm, or head of an attention, keep as many channels as the others, in order?"""
    channels, groups = (
        (layer.num_channels, layer.num_groups)
        if isinstance(layer, nn.GroupNorm)
        else (layer.embed_dim, layer.num_heads)
        if isinstance(layer, nn.MultiheadAttention)
        else (0, 1)
    )
    if kept is None or groups == 1:
        return True
    of_group = [channel // (channels // groups) for channel in kept]
    return of_group == sorted(of_group) and all(of_group.count(g) * groups == len(kept) for g in range(groups))


class _Differs(Exception):
    """A layer reads something else than in the pruned network."""


def _without(kept: list[int] | None, channels: int, indices: Sequence[int]) -> list[int]:
    """`indices` are of the channels that are left."""
    removed = set(indices)
    left = list(range(channels)) if kept is None else kept
    return [channel for index, channel in enumerate(left) if index not in removed]


def _recorder(calls: list[Call]) -> Callable[..., Any]:
    """A hook that records what a layer reads and returns, and adds noise, so that no two channels are alike."""
    noise = torch.Generator().manual_seed(0)

    def hook(module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> Any:
        values, structure = pytree.tree_flatten(outputs)
        noisy = [_noisy(value, noise) for value in values]
        calls.append(Call(_copies(pytree.tree_leaves((args, kwargs))), values, _copies(noisy)))
        return pytree.tree_unflatten(noisy, structure)

    return hook


def _replay(calls: Iterator[Call], kept: Kept, mark: float) -> Callable[..., Any]:
    """A hook that compares what the original layer reads with the pruned one's, and returns the latter's outputs."""

    def hook(module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> Any:
        call = next(calls, None)
        if call is None or not _parts_are_same(pytree.tree_leaves((args, kwargs)), call.reads, kept.reads, 1e-5):
            raise _Differs
        if type(module) in LINEAR:
            zeroed = pytree.tree_map_only(Tensor, lambda t: t.masked_fill(t.isnan(), 0), (args, kwargs))
            result = pytree.tree_leaves(module.forward(*zeroed[0], **zeroed[1]))
            if not _parts_are_same(result, call.returns, kept.returns, 1e-4):
                raise _Differs
        values, structure = pytree.tree_flatten(outputs)
        marked = [_marked(a, b, kept.returns, mark) for a, b in zip(values, call.noisy, strict=True)]
        return pytree.tree_unflatten(marked, structure)

    return hook


@contextmanager
def _hooks(network: nn.Module, hooks: dict[str, Callable[..., Any]]) -> Iterator[None]:
    layers = dict(network.named_modules())
    with ExitStack() as stack:
        for name, hook in hooks.items():
            handle = layers[name].register_forward_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _copies(values: list[Any]) -> list[Any]:
    """What later layers may change in place."""
    return [value.clone() if isinstance(value, Tensor) else value for value in values]


def _noisy(value: Any, noise: torch.Generator) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    scale = float(value.abs().mean()) or 1.0
    return value + scale * torch.rand(value.shape, generator=noise).to(value)


def _axis(whole: Tensor, part: Tensor) -> int | None:
    """The axis of the channels: along which the two differ in size; None if they do not."""
    axes = [axis for axis, sizes in enumerate(zip(whole.shape, part.shape, strict=True)) if sizes[0] != sizes[1]]
    if len(axes) > 1:
        raise _Differs
    return axes[0] if axes else None


def _part(whole: Any, part: Any, kept: list[int] | None) -> Any:
    """The kept channels."""
    if not isinstance(whole, Tensor) or not isinstance(part, Tensor) or whole.ndim != part.ndim:
        return whole
    axis = _axis(whole, part)
    if axis is None:
        return whole
    if kept is None or len(kept) != part.shape[axis]:
        raise _Differs
    return whole.index_select(axis, torch.tensor(kept, device=whole.device))


def _marked(whole: Any, part: Any, kept: list[int] | None, mark: float) -> Any:
    """`part` with the shape of `whole`."""
    if not isinstance(whole, Tensor) or not isinstance(part, Tensor) or (axis := _axis(whole, part)) is None:
        return part.clone() if isinstance(part, Tensor) else part
    if kept is None or len(kept) != part.shape[axis]:
        raise _Differs
    marked = torch.full_like(whole, mark, dtype=part.dtype)
    return marked.index_copy_(axis, torch.tensor(kept, device=part.device), part)


def _parts_are_same(wholes: list[Any], parts: list[Any], kept: list[int] | None, share: float) -> bool:
    return len(wholes) == len(parts) and all(
        _same(_part(whole, part, kept), part, share) for whole, part in zip(wholes, parts, strict=True)
    )


def _same(first: Any, second: Any, share: float) -> bool:
    """Equal, or within `share` of the largest magnitude; NaN is not equal to NaN."""
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return first is second or bool(first == second)
    if first.shape != second.shape or bool(second.isnan().any()):
        return False
    return torch.equal(first, second) or close(second, first, 1e-4, share, 1e-8)


class _Unmarked(TorchFunctionMode):
    """Functions that depend on the number of channels leave out those that are NaN."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _COUNTING.get(func, func)(*args, **(kwargs or {}))


def _var(
    x: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: int | None = None
) -> Tensor:
    squares = (x - x.nanmean(dim, keepdim=True)).square()
    count = x.isnan().logical_not().sum(dim, keepdim=keepdim)
    less = int(unbiased) if correction is None else correction
    return squares.nanmean(dim, keepdim=keepdim) * count / (count - less)


def _std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _var(x, *args, **kwargs).sqrt()


def _softmax(x: Tensor, dim: int, **options: Any) -> Tensor:
    options.pop("_stacklevel", None)
    removed = x.isnan()
    return x.masked_fill(removed, -torch.inf).softmax(dim, **options).masked_fill(removed, torch.nan)


def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return _affine(_normalized(x, tuple(range(-len(shape), 0)), eps), weight, bias)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    grouped = _normalized(x.reshape(len(x), groups, -1), (2,), eps).reshape(x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    return _affine(grouped, *(None if t is None else t.reshape(shape) for t in (weight, bias)))


def _normalized(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.nanmean(dims, keepdim=True)
    return centred / (centred.square().nanmean(dims, keepdim=True) + eps).sqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_COUNTING: dict[Any, Callable[..., Any]] = {
    torch.mean: torch.nanmean,
    Tensor.mean: torch.nanmean,
    torch.var: _var,
    Tensor.var: _var,
    torch.std: _std,
    Tensor.std: _std,
    torch.softmax: _softmax,
    Tensor.softmax: _softmax,
    functional.softmax: _softmax,
    functional.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
}
