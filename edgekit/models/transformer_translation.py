"""A small transformer for translation (https://arxiv.org/abs/1706.03762), normalisation first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.shared.attention import Attention, Block, Embed, visible


class TransformerTranslation(nn.Module):
    """(N, length) source and (N, target) tokens so far → (N, target, words) logits of what follows each place."""

    causal: Tensor

    def __init__(
        self,
        words: int,
        length: int,
        target: int,
        width: int = 96,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.read, self.write = Embed(words, length, width), Embed(words, target, width)
        self.encoder = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.decoder = nn.ModuleList(_Across(width, heads, dropout) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, words)
        self.register_buffer("causal", torch.tril(torch.ones(target, target))[None, None])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        seen, x = visible(source), self.dropout(self.read(source))
        for block in self.encoder:
            x = block(x, seen)
        memory, y = self.norms[0](x), self.dropout(self.write(target))
        for block in self.decoder:
            y = block(y, self.causal, memory, seen)
        logits: Tensor = self.head(self.norms[1](y))
        return logits


class _Across(nn.Module):
    """A block that first looks at the source."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.block, self.dropout = Block(width, heads, dropout), nn.Dropout(dropout)

    def forward(self, y: Tensor, causal: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        y = y + self.dropout(self.attention(self.norm(y), memory, seen))
        after: Tensor = self.block(y, causal)
        return after
