"""A network with other edges: images as NHWC, or as the bytes of an image with their normalization in the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Edge:
    """What becomes of one input. `nhwc`: it was NCHW. `factor`, `offset`: per channel, of the bytes of an image."""

    nhwc: bool = False
    factor: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()


class Edges(nn.Module):
    """`channels_last` of an edge: where its channels are before the network's own layout."""

    def __init__(self, network: nn.Module, edges: Sequence[Edge], channels_last: Sequence[bool]) -> None:
        super().__init__()
        self.network, self.edges, self.channels_last = network, tuple(edges), tuple(channels_last)
        for index, edge in enumerate(edges):
            for name in ("factor", "offset"):
                values = torch.tensor(getattr(edge, name), dtype=torch.float32)
                shaped = values if channels_last[index] or len(values) < 2 else values[:, None, None]
                self.register_buffer(f"{name}_{index}", shaped, persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        changed = []
        for index, (x, edge) in enumerate(zip(inputs, self.edges, strict=True)):
            if edge.factor:
                x = x.to(torch.float32) * self.get_buffer(f"factor_{index}") + self.get_buffer(f"offset_{index}")
            changed.append(x.permute(0, 3, 1, 2) if edge.nhwc else x)
        result: Tensor = self.network(*changed)
        return result
