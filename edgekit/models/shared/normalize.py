"""Normalisation as part of the network, so that a device is given raw values and cannot get it wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std, written as x * scale + shift: one value for each of axis 1 of (N, C, …), or one for all.

    `axes`: how many axes follow that one.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], axes: int = 2) -> None:
        super().__init__()
        shape = () if len(mean) == 1 else (len(mean), *[1] * axes)
        centre, spread = torch.tensor(mean).reshape(shape), torch.tensor(std).reshape(shape)
        self.register_buffer("scale", 1 / spread)
        self.register_buffer("shift", -centre / spread)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift
