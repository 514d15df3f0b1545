"""A perceptron with two hidden layers, for rows of values and short series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize


class Mlp(nn.Module):
    """(N, …) values → (N, outputs).

    `mean`, `std`: of each value, if they are not standardized; the network does that. `label_mean`, `label_std`: of
    the values that it predicts, so that its outputs are in their unit.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        widths: Sequence[int] = (64, 32),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        label_mean: Sequence[float] = (),
        label_std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std, axes=0) if mean else nn.Identity()
        layers: list[nn.Module] = []
        for before, after in pairwise([prod(shape), *widths]):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
        # (x - (-m / s)) / (1 / s) = x * s + m
        back = ([-m / s for m, s in zip(label_mean, label_std, strict=True)], [1 / s for s in label_std])
        self.denormalize = Normalize(*back, axes=0) if label_mean else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.denormalize(self.layers(self.normalize(x.flatten(1))))
        return values
