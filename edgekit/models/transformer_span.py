"""A small transformer encoder that says where in a text the answer to a question stands."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.shared.attention import Block, Embed, visible


class TransformerSpan(nn.Module):
    """(N, asked) and (N, length) token numbers, 0 fills up → (N, 2, length): logits of the first and last token.

    Both texts are read as one, the question in the first places, so that a place tells which of the two it is in. A
    token of the context that is also in the question is told so, as DrQA does (https://arxiv.org/abs/1704.00051), and
    convolutions come before attention, as in QANet (https://arxiv.org/abs/1804.09541): who is near whom needs not be
    learnt place by place.
    """

    def __init__(
        self,
        words: int,
        asked: int,
        length: int,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.asked = asked
        self.embed = Embed(words, asked + length, width)
        self.same = nn.Parameter(torch.randn(width) * width**-0.5)
        self.near = nn.ModuleList(_Near(width) for _ in range(2))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm, self.dropout, self.head = nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, 2)

    def forward(self, question: Tensor, context: Tensor) -> Tensor:
        tokens = torch.cat([question, context], dim=1)
        seen = visible(tokens)
        x = self.embed(tokens)
        x = torch.cat([x[:, : self.asked], x[:, self.asked :] + shared(question, context) * self.same], dim=1)
        x = self.dropout(x)
        for layer in self.near:
            x = layer(x)
        for block in self.blocks:
            x = block(x, seen)
        logits: Tensor = self.head(self.norm(x[:, self.asked :]))
        return logits.transpose(1, 2)


def shared(question: Tensor, context: Tensor) -> Tensor:
    """(N, length, 1) 1.0 for a token of the context that the question holds too, else 0.0."""
    equal = (context[:, :, None] == question[:, None]).to(torch.float32).amax(dim=2, keepdim=True)
    return equal * (context != 0).to(torch.float32)[:, :, None]


class _Near(nn.Module):
    """A convolution over seven places, each channel on its own, then across channels; beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.apart = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.across = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.apart(self.norm(x).transpose(1, 2)).transpose(1, 2)
        near: Tensor = x + self.across(y.relu())
        return near
