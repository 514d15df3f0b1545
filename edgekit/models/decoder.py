"""A small decoder of text, of Llama's kind: it predicts each next token, and keeps what it has read in a cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from edgekit.models.shared.width import scaled

#: how much of a text the cache of the exporters' example holds
EXAMPLE_PAST = 3


class Decoder(nn.Module):
    """(N, T) token numbers → (N, T, words) logits of the next token.

    Root mean square normalisation (https://arxiv.org/abs/1910.07467), rotary positions
    (https://arxiv.org/abs/2104.09864), grouped queries (https://arxiv.org/abs/2305.13245), gated layers
    (https://arxiv.org/abs/2002.05202), and one matrix for tokens and logits.

    `heads` of `size` values attend; `width` multiplies `size` and `hidden`. With the states of what came before, keys
    and values (N, groups, past, size) of each block, the outputs are the logits and the states for the next call.
    """

    def __init__(
        self,
        words: int,
        length: int = 128,
        width: float = 1.0,
        blocks: int = 4,
        heads: int = 6,
        groups: int = 2,
        size: int = 32,
        hidden: int = 512,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size, (hidden,) = 2 * scaled([size // 2], width)[0], scaled([hidden], width)  # a head turns pairs of values
        self.embed = nn.Embedding(words, heads * size)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(heads, groups, size, hidden, dropout) for _ in range(blocks))
        self.norm = RootMeanSquare(heads * size)
        self.kept = (groups, size)
        #: the length of the texts that it is trained on
        self.context = length

    def forward(self, tokens: Tensor, *states: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.embed(tokens)
        following = []
        for index, block in enumerate(self.blocks):
            x, kept = block(x, states[2 * index : 2 * index + 2])
            following += kept
        logits: Tensor = self.norm(x) @ self.embed.weight.T
        return (logits, *following) if states else logits

    def example_states(self, samples: int) -> dict[str, Tensor]:
        """By name, states (samples, groups, past, size) of a past that is not empty."""
        names = [f"{index}.{kind}" for index in range(len(self.blocks)) for kind in ("key", "value")]
        groups, size = self.kept
        shape = (samples, groups, EXAMPLE_PAST, size)
        generator = torch.Generator().manual_seed(0)
        return {name: torch.randn(shape, generator=generator) for name in names}


class RootMeanSquare(nn.Module):
    """x / sqrt(mean x²) over the last axis, times learned factors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5) * self.weight
        return scaled


class Attention(nn.Module):
    """Causal attention, in which several heads of queries share the keys and values of a group."""

    frequencies: Tensor

    def __init__(self, heads: int, groups: int, size: int) -> None:
        super().__init__()
        width, self.heads, self.groups, self.size = heads * size, heads, groups, size
        self.query, self.join = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        frequencies = 10000.0 ** (-torch.arange(0, self.size, 2) / self.size)
        self.register_buffer("frequencies", torch.cat([frequencies, frequencies]), persistent=False)

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """(N, T, width), and keys and values of the past → (N, T, width), and both with those of x."""
        past = states[0].shape[2] if states else 0
        places = torch.arange(past, past + x.shape[1], device=x.device)
        angles = places[:, None].to(x.dtype) * self.frequencies
        query, key = (_rotated(y, angles) for y in (self._split(self.query(x)), self._split(self.key(x))))
        value = self._split(self.value(x))
        if states:
            key, value = torch.cat([states[0], key], dim=2), torch.cat([states[1], value], dim=2)
        hidden = torch.arange(key.shape[2], device=x.device)[None, :] > places[:, None]
        grouped = query.reshape(query.shape[0], self.groups, self.heads // self.groups, -1, self.size)
        scores = grouped @ key.unsqueeze(2).transpose(3, 4) * self.size**-0.5
        shares = scores.masked_fill(hidden, -1e4).softmax(dim=-1)
        joined: Tensor = self.join((shares @ value.unsqueeze(2)).flatten(1, 2).transpose(1, 2).flatten(2))
        return joined, [key, value]

    def _split(self, y: Tensor) -> Tensor:
        parts: Tensor = y.reshape(y.shape[0], y.shape[1], -1, self.size).transpose(1, 2)
        return parts


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """(N, heads, T, size), each pair of its halves' values turned by the angle of its place."""
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


class Block(nn.Module):
    """Attention and gated layers, each after a normalisation and beside a shortcut."""

    def __init__(self, heads: int, groups: int, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        width = heads * size
        self.first, self.second = RootMeanSquare(width), RootMeanSquare(width)
        self.attention = Attention(heads, groups, size)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        attended, following = self.attention(self.first(x), states)
        x = x + self.dropout(attended)
        y = self.second(x)
        return x + self.dropout(self.down(silu(self.gate(y)) * self.up(y))), following
