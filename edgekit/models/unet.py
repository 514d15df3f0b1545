"""A small U-Net (https://arxiv.org/abs/1505.04597): three halvings, transposed convolutions back, with skips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.models.shared.layers import conv
from edgekit.models.shared.normalize import Normalize


class Unet(nn.Module):
    """(N, C, H, W) raw values → (N, classes, H, W) logits; H and W are multiples of eight."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (8, 16, 32, 64),
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        before = [shape[0], *widths]
        self.down = nn.ModuleList(nn.Sequential(*conv(b, a), *conv(a, a)) for b, a in zip(before, widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(nn.Sequential(*conv(2 * w, w), *conv(w, w)) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalize(x)
        skips = []
        for index, block in enumerate(self.down):
            x = block(x if index == 0 else self.pool(x))
            skips.append(x)
        for enlarge, block, skip in zip(self.enlarge, self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([skip, enlarge(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits
