"""Two GRUs with attention between them (https://arxiv.org/abs/1508.04025: the state looks, then both are joined)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.shared.attention import Attention, visible


class GruTranslation(nn.Module):
    """(N, length) source and (N, target) tokens so far → (N, target, words) logits of what follows each place.

    `length` and `target` do not shape the weights; the exporters fix them.
    """

    def __init__(
        self, words: int, length: int, target: int, width: int = 96, states: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.read, self.write = nn.Embedding(words, width), nn.Embedding(words, width)
        for embedding in (self.read, self.write):
            nn.init.normal_(embedding.weight, std=0.1)
        self.forth = nn.GRU(width, states, batch_first=True)
        self.back = nn.GRU(width, states, batch_first=True)
        self.both, self.begin = nn.Linear(2 * states, states), nn.Linear(states, states)
        self.decoder = nn.GRU(width, states, batch_first=True)
        self.attention, self.join = Attention(states, 1), nn.Linear(2 * states, width)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        seen, x = visible(source), self.dropout(self.read(source))
        turned, _ = self.back(x.flip(1))
        memory = torch.tanh(self.both(torch.cat([self.forth(x)[0], turned.flip(1)], dim=-1)))
        weights = seen[:, 0, 0, :, None]
        mean = (memory * weights).sum(dim=1) / (weights.sum(dim=1) + 1e-3)
        states, _ = self.decoder(self.dropout(self.write(target)), torch.tanh(self.begin(mean))[None])
        looked = self.attention(states, memory, seen)
        logits: Tensor = self.head(self.dropout(torch.tanh(self.join(torch.cat([states, looked], dim=-1)))))
        return logits
