"""What several of the shipped convolutional networks are built from."""

from __future__ import annotations

from torch import nn


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size (or halves it), normalisation, ReLU."""
    layer = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(after), nn.ReLU()]
