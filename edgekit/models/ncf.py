"""Neural collaborative filtering (https://arxiv.org/abs/1708.05031): a product of factors beside a perceptron."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ncf(nn.Module):
    """user (N, 1) and item (N, K) numbers → (N, K) ratings, or scores to rank by.

    `base` is what an unknown user would give.
    """

    def __init__(
        self, users: int, items: int, base: float = 0.0, factors: int = 16, layers: Sequence[int] = (32, 16)
    ) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, 2 * factors), nn.Embedding(items, 2 * factors)
        self.factors = factors
        blocks: list[nn.Module] = []
        before = 2 * factors
        for after in layers:
            blocks += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.2)]
            before = after
        self.deep = nn.Sequential(*blocks)
        self.head = nn.Linear(before + factors, 1)
        self.dropout = nn.Dropout(0.3)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.05)
        nn.init.constant_(self.head.bias, base)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        u = self.dropout(self.users(user))
        i = self.dropout(self.items(item))
        f = self.factors
        u = u.expand(-1, item.shape[1], -1)
        product = u[..., :f] * i[..., :f]
        both = torch.cat([product, self.deep(torch.cat([u[..., f:], i[..., f:]], dim=-1))], dim=-1)
        ratings: Tensor = self.head(both).squeeze(-1)
        return ratings
