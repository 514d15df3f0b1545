"""A small transformer encoder that tells texts apart."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.shared.attention import Block, Embed, visible


class TransformerText(nn.Module):
    """(N, length) token numbers, 0 fills up → (N, classes) logits, or (N, 1) values. Pools over the text alone."""

    def __init__(
        self,
        words: int,
        length: int,
        classes: int,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.embed = Embed(words, length, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm, self.dropout, self.head = nn.LayerNorm(width), nn.Dropout(0.3), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = visible(tokens)
        x = self.dropout(self.embed(tokens))
        for block in self.blocks:
            x = block(x, seen)
        weights = seen[:, 0, 0, :, None]
        pooled = (self.norm(x) * weights).sum(dim=1) / (weights.sum(dim=1) + 1e-3)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
