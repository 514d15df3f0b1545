"""A one-dimensional convolutional network for sensor series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Cnn1d(nn.Module):
    """(N, time, channels) standardized values → (N, outputs); every layer after the first halves the time."""

    def __init__(self, shape: Sequence[int], outputs: int, widths: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise([shape[1], *widths])):
            convolution = nn.Conv1d(before, after, 5, stride=1 + (index > 0), padding=2, bias=False)
            layers += [convolution, nn.BatchNorm1d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.head(self.dropout(self.features(x.transpose(1, 2)).mean(dim=2)))
        return values
