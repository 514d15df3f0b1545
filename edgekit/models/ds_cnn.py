"""A small depthwise-separable network in the manner of MobileNet (https://arxiv.org/abs/1704.04861)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize
from edgekit.models.shared.width import dropped, scaled


class DsCnn(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits. About 36,000 parameters at 1 x 28 x 28 and ten classes.

    `widths`: channels after the first convolution and after each separable block; blocks 1 and 3 halve the image.
    `width` multiplies them all; `dropout` is that before the last layer.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (32, 64, 64, 128, 128),
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = scaled(widths, width)
        self.normalize = Normalize(mean, std)
        layers: list[nn.Module] = [*_conv(shape[0], widths[0], kernel=3)]
        for index, (before, after) in enumerate(pairwise(widths)):
            layers += _conv(before, before, kernel=3, stride=2 - index % 2, groups=before)
            layers += _conv(before, after, kernel=1)
        self.features = nn.Sequential(*layers)
        last = nn.Linear(widths[-1], classes)
        self.head = nn.Sequential(*dropped(dropout), last) if dropout else last

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.normalize(x)).mean(dim=(2, 3)))
        return logits


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]
