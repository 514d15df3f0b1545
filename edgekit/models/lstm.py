"""A recurrent network for sensor series: one LSTM, its states averaged over time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Lstm(nn.Module):
    """(N, time, channels) standardized values → (N, outputs)."""

    def __init__(self, shape: Sequence[int], outputs: int, width: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(shape[1], width, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        values: Tensor = self.head(self.dropout(states.mean(dim=1)))
        return values
