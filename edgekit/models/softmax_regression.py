"""The smallest there is: one linear layer. With class labels softmax regression, with values linear regression."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class SoftmaxRegression(nn.Module):
    """(N, …) standardized values → (N, outputs)."""

    def __init__(self, shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        size = 1
        for side in shape:
            size *= side
        self.head = nn.Linear(size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.head(x.flatten(1))
        return values
