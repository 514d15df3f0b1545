"""Attention written out as two plain products, so that every exporter and every int8 sees the same operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: what a hidden position scores: its share is then below 1e-8 wherever a visible one scores more than -10, while an
#: int8 range that has to hold it is not blown up
HIDDEN = -30.0


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (https://arxiv.org/abs/1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.join = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """(N, T, width) of (N, T, width) queries over (N, S, width); `visible` (N or 1, 1, T or 1, S) is 1.0 or 0.0."""
        query, key, value = (self._split(y) for y in (self.query(x), self.key(memory), self.value(memory)))
        scores = query @ key.transpose(2, 3) * self.size**-0.5
        shares = (scores * visible + HIDDEN * (1 - visible)).softmax(dim=-1)
        joined: Tensor = self.join((shares @ value).transpose(1, 2).flatten(2))
        return joined

    def _split(self, y: Tensor) -> Tensor:
        parts: Tensor = y.reshape(y.shape[0], y.shape[1], self.heads, self.size).transpose(1, 2)
        return parts


class Block(nn.Module):
    """Attention and two layers with GELU, each after a layer normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        y = self.first(x)
        x = x + self.dropout(self.attention(y, y, visible))
        thought: Tensor = self.dropout(self.think(self.second(x)))
        return x + thought


class Embed(nn.Module):
    """Token numbers (N, L) → (N, L, width): a vector for the token plus one for its place."""

    def __init__(self, words: int, length: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.words(tokens) + self.places
        return embedded


def visible(tokens: Tensor) -> Tensor:
    """(N, 1, 1, L) 1.0 for a token, 0.0 for what only fills up (number 0)."""
    mask: Tensor = (tokens != 0).to(torch.float32)[:, None, None, :]
    return mask
