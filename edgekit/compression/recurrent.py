"""Recurrent layers, for the tracing of dependencies: one operation each, whose inputs can lose channels.

Their states keep theirs: they feed back, and the gates share one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

RECURRENT = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)


def layers(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules() if isinstance(module, RECURRENT)}


@contextmanager
def traced_whole(network: nn.Module) -> Iterator[None]:
    """While the outputs of each recurrent layer are, for autograd, those of one function of what it reads."""
    with ExitStack() as stack:
        for layer in layers(network).values():
            stack.callback(layer.register_forward_hook(_replace, with_kwargs=True).remove)
        yield


def pruners(network: nn.Module) -> dict[type[nn.Module], Any]:
    """Torch-Pruning's custom pruners, by type: they prune what a layer reads."""
    from torch_pruning.pruner.function import BasePruningFunc

    class Pruner(BasePruningFunc):  # type: ignore[misc]
        def prune_in_channels(self, layer: Any, idxs: list[int]) -> nn.Module:
            kept = [index for index in range(layer.input_size) if index not in set(idxs)]
            for name in ("weight_ih", "weight_ih_l0", "weight_ih_l0_reverse"):
                if (weight := getattr(layer, name, None)) is not None:
                    setattr(layer, name, self._prune_parameter_and_grad(weight, kept, 1))
            layer.input_size = len(kept)
            return layer  # type: ignore[no-any-return]

        def prune_out_channels(self, layer: Any, idxs: list[int]) -> nn.Module:
            raise RuntimeError("the states of a recurrent layer keep all their channels")

        def get_in_channels(self, layer: Any) -> int:
            return int(layer.input_size)

        def get_out_channels(self, layer: Any) -> int:
            width = getattr(layer, "proj_size", 0) or layer.hidden_size
            return int(width) * (2 if getattr(layer, "bidirectional", False) else 1)

    return {type(layer): Pruner() for layer in layers(network).values()}


class _Whole(torch.autograd.Function):
    """Returns copies of the first `count` tensors, as if they were computed from the rest."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("for tracing only")


def _replace(module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> Any:
    values, structure = pytree.tree_flatten(outputs)
    floats = [value for value in values if _is_float(value)]
    read = [value for value in pytree.tree_leaves((args, kwargs)) if _is_float(value)]
    whole = iter(_Whole.apply(len(floats), *(value.detach() for value in floats), *read))  # type: ignore[no-untyped-call]
    return pytree.tree_unflatten([next(whole) if _is_float(value) else value for value in values], structure)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
