"""A small recurrent network for keywords: one GRU, its states averaged over time."""

from __future__ import annotations

from torch import Tensor, nn


class GruKws(nn.Module):
    """(N, frames, bands) features → (N, classes) logits."""

    def __init__(self, frames: int, bands: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(bands, width, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        logits: Tensor = self.head(self.dropout(states.mean(dim=1)))
        return logits
