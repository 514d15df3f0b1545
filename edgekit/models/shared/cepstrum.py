"""Cepstral coefficients as a fixed product, so that the exported model takes log-mel features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Cepstrum(nn.Module):
    """(…, bands) log energies → (…, coefficients): the orthonormal cosine transform (DCT-II), its first columns."""

    basis: Tensor

    def __init__(self, bands: int, coefficients: int) -> None:
        super().__init__()
        angles = (torch.arange(bands)[:, None] + 0.5) * torch.arange(coefficients)[None] * (math.pi / bands)
        basis = torch.cos(angles) * math.sqrt(2 / bands)
        basis[:, 0] /= math.sqrt(2)
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.basis
