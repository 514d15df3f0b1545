"""A small vision transformer (https://arxiv.org/abs/2010.11929): patches as words, the mean of what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from edgekit.models.shared.normalize import Normalize


class Vit(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits; H and W are multiples of `patch`."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        patch: int = 4,
        width: int = 64,
        heads: int = 4,
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.patches = nn.Conv2d(shape[0], width, patch, patch)
        places = (shape[1] // patch) * (shape[2] // patch)
        self.places = nn.Parameter(torch.randn(1, places, width) * 0.02)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        words = self.patches(self.normalize(x)).flatten(2).transpose(1, 2)
        words = self.norm(self.blocks(words + self.places))
        logits: Tensor = self.head(words.mean(dim=1))
        return logits


class _Block(nn.Module):
    """Attention and a perceptron, each after normalisation and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[1]
        parts = self.query_key_value(self.norms[0](x)).reshape(-1, count, 3, self.heads, self.size)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-2, -1) * self.size**-0.5).softmax(dim=-1)
        seen = (weights @ value).transpose(1, 2).reshape(-1, count, self.heads * self.size)
        x = x + self.dropout(self.out(seen))
        y: Tensor = x + self.dropout(self.narrow(gelu(self.wide(self.norms[1](x)))))
        return y
