"""A fully convolutional network for segmentation (https://arxiv.org/abs/1411.4038), with skips."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgekit.models.shared.layers import conv
from edgekit.models.shared.normalize import Normalize


class Fcn(nn.Module):
    """(N, C, H, W) raw values → (N, classes, H, W) logits; H and W are multiples of eight.

    Scores are taken at an eighth and a quarter of the size, added, and enlarged bilinearly.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (16, 32, 64, 96),
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.normalize = Normalize(mean, std)
        self.quarter = nn.Sequential(*conv(shape[0], a, stride=2), *conv(a, b, stride=2), *conv(b, b))
        self.eighth = nn.Sequential(*conv(b, c, stride=2), *conv(c, d), *conv(d, d), *conv(d, d))
        self.heads = nn.ModuleList([nn.Conv2d(b, classes, 1), nn.Conv2d(d, classes, 1)])
        self.size = (int(shape[1]), int(shape[2]))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.quarter(self.normalize(x))
        coarse = self.heads[1](self.eighth(fine))
        height, width = self.size
        logits = self.heads[0](fine) + _larger(coarse, (height // 4, width // 4))
        return _larger(logits, self.size)


def _larger(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size=size, mode="bilinear", align_corners=False)
