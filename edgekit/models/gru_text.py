"""Embedding and a recurrent layer that tell texts apart."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.shared.attention import visible


class GruText(nn.Module):
    """(N, length) token numbers, 0 fills up → (N, classes) logits, or (N, 1) values.

    The states are averaged over the text alone.
    """

    def __init__(self, words: int, length: int, classes: int, width: int = 64, states: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        nn.init.normal_(self.words.weight, std=0.1)
        self.gru = nn.GRU(width, states, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(states, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.dropout(self.words(tokens)))
        weights = visible(tokens)[:, 0, 0, :, None]
        pooled = (states * weights).sum(dim=1) / (weights.sum(dim=1) + 1e-3)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
