"""A small deep learning recommendation model (https://arxiv.org/abs/1906.00091): factors, their products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Dlrm(nn.Module):
    """user (N, 1) and item (N, K) numbers → (N, K) ratings, or scores to rank by.

    The paper's dense features are a user's and an item's biases here: there are no others in a table of ratings.
    """

    def __init__(
        self, users: int, items: int, base: float = 0.0, factors: int = 16, layers: Sequence[int] = (32, 16)
    ) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, factors), nn.Embedding(items, factors)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        self.bottom = nn.Sequential(nn.Linear(2, factors), nn.ReLU())
        blocks: list[nn.Module] = []
        before = factors + 3
        for after in layers:
            blocks += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.2)]
            before = after
        self.top = nn.Sequential(*blocks, nn.Linear(before, 1))
        self.dropout = nn.Dropout(0.3)
        for table in (self.users, self.items, self.user_bias, self.item_bias):
            nn.init.normal_(table.weight, std=0.05)
        nn.init.constant_(self.top[-1].bias, base)  # type: ignore[arg-type]

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        count = item.shape[1]
        u = self.dropout(self.users(user)).expand(-1, count, -1)
        i = self.dropout(self.items(item))
        a, b = self.user_bias(user).expand(-1, count, -1), self.item_bias(item)
        dense = self.bottom(torch.cat([a, b], dim=-1))
        products = [(x * y).sum(dim=-1, keepdim=True) for x, y in ((u, i), (u, dense), (i, dense))]
        ratings: Tensor = (self.top(torch.cat([dense, *products], dim=-1)) + a + b).squeeze(-1)
        return ratings
