"""Where a network's code splits or shuffles the channels of images, cut apart for the tracing of dependencies.

Torch-Pruning follows channels through a split only if each part is read once, and not through a shuffle. With
`Cuts`, a traced tensor ends before such an operator, and each part begins again: both are layers whose channels stay,
so what is before and after the operator can be pruned, except for the layers that it reads and those added to a part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SPLITS = {torch.chunk, torch.split, torch.tensor_split, torch.split_with_sizes, torch.narrow, torch.index_select}
SPLITS |= {getattr(Tensor, function.__name__) for function in SPLITS} | {Tensor.__getitem__}
RESHAPES = {torch.reshape, torch.unflatten, torch.flatten, Tensor.view, Tensor.reshape, Tensor.unflatten}
RESHAPES |= {Tensor.flatten}


class Cuts(TorchFunctionMode):
    """Records the splits of the code that runs in it, or, with `layers` made for them (`layers_for`), cuts there."""

    def __init__(self, layers: nn.ModuleList | None = None) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []
        self.ends: list[Tensor] = []
        self._layers = None if layers is None else iter(layers)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensor = args[0] if args else None
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return result
        if func in SPLITS and tensor.ndim == 4:
            parts = result if isinstance(result, tuple | list) else [result]
            if any(part.ndim != 4 for part in parts) or all(part.shape[1] == tensor.shape[1] for part in parts):
                return result
            self._end(tensor)
            begun = [self._begin(part) for part in parts]
            return type(result)(begun) if isinstance(result, tuple | list) else begun[0]
        if func not in RESHAPES or not {tensor.ndim, result.ndim} <= {4, 5} or tensor.shape[1] == result.shape[1]:
            return result
        if tensor.ndim == 4:
            self._end(tensor)
        return self._begin(result) if result.ndim == 4 else result.detach()

    def _end(self, tensor: Tensor) -> None:
        layer = self._layer(tensor.shape[1], 1)
        if layer is not None:
            self.ends.append(layer(tensor))

    def _begin(self, part: Tensor) -> Tensor:
        layer = self._layer(1, part.shape[1])
        begun: Tensor = part if layer is None else layer(part.detach()[:, :1])
        return begun

    def _layer(self, inputs: int, outputs: int) -> nn.Module | None:
        self.sizes.append((inputs, outputs))
        return None if self._layers is None else next(self._layers)


def layers_for(network: nn.Module, inputs: Sequence[Tensor]) -> nn.ModuleList:
    """A layer before each split and one for each of its parts; empty for a network without splits."""
    with torch.no_grad(), Cuts() as recorded:
        network(*inputs)
    return nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in recorded.sizes)


def traced_with(layers: nn.ModuleList) -> Callable[[nn.Module, Sequence[Tensor]], list[Any]]:
    """A function that runs a network, cut apart, and returns its outputs and what ends at a split."""

    def forward(network: nn.Module, inputs: Sequence[Tensor]) -> list[Any]:
        with Cuts(layers) as cuts:
            outputs = network(*inputs)
        return [outputs, *cuts.ends]

    return forward
