"""MLPerf Tiny's anomaly detection network: a fully connected autoencoder.

Layer by layer that of https://github.com/mlcommons/tiny, benchmark/training/anomaly_detection/keras_model.py: at 640
values 265,864 weights and biases, 4,128 numbers of normalisation, 264,192 MACs.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Autoencoder(nn.Module):
    """(N, size) → (N, size), through `bottleneck` values; what it has not seen comes back changed."""

    def __init__(self, size: int, width: int = 128, depth: int = 4, bottleneck: int = 8) -> None:
        super().__init__()
        widths = [size, *[width] * depth, bottleneck, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, eps=0.001, momentum=0.01), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, size))

    def forward(self, x: Tensor) -> Tensor:
        again: Tensor = self.layers(x)
        return again
