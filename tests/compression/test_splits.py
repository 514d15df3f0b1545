from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.compression import splits


class Calls(nn.Module):
    def __init__(self, call: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> object:
        return self.call(x)


X = torch.rand(2, 8, 4, 4)

CASES: dict[str, tuple[Callable[[Tensor], object], list[tuple[int, int]]]] = {
    "chunk": (lambda x: x.chunk(2, 1), [(8, 1), (1, 4), (1, 4)]),
    "split": (lambda x: torch.split(x, [2, 6], dim=1), [(8, 1), (1, 2), (1, 6)]),
    "slice": (lambda x: x[:, 2:], [(8, 1), (1, 6)]),
    "shuffle": (lambda x: x.view(2, 2, 4, 4, 4).transpose(1, 2).reshape(2, 8, 4, 4), [(8, 1), (1, 8)]),
    "rows": (lambda x: x.chunk(2, 2), []),
    "crop": (lambda x: x[:, :, 1:], []),
    "flatten": (lambda x: x.flatten(1), []),
}


@pytest.mark.parametrize("call, sizes", CASES.values(), ids=CASES)
def test_layers_at_splits_of_channels(call: Callable[[Tensor], object], sizes: list[tuple[int, int]]) -> None:
    layers = splits.layers_for(Calls(call), (X,))
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == sizes


def test_what_is_before_a_split_is_an_output_of_its_own() -> None:
    network = Calls(lambda x: torch.cat(x.chunk(2, 1), 1))
    layers = splits.layers_for(network, (X,))
    outputs, end = splits.traced_with(layers)(network, (X.requires_grad_(),))
    assert outputs.shape == X.shape and end.shape == (2, 1, 4, 4)
    assert torch.autograd.grad(outputs.sum(), X, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(end.sum(), X)[0] is not None
