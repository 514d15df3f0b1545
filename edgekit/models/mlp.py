"""A perceptron with two hidden layers, for rows of values and short series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn


class Mlp(nn.Module):
    """(N, …) standardized values → (N, outputs)."""

    def __init__(self, shape: Sequence[int], outputs: int, widths: Sequence[int] = (64, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([prod(shape), *widths]):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.layers(x.flatten(1))
        return values
