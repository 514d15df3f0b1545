from __future__ import annotations

import torch
from torch import nn

from edgekit.networks import half


class Casting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x.half()).float()
        return y


def test_what_runs_in_float32() -> None:
    x = torch.rand(1, 4)
    assert half.runs_in_float32(nn.Linear(4, 2).half(), x.half())
    assert half.runs_in_float32(nn.Linear(4, 2).bfloat16(), (x.bfloat16(),))
    assert not half.runs_in_float32(nn.Linear(4, 2), x)
    assert not half.runs_in_float32(Casting(), x)


def test_examples() -> None:
    ids = torch.ones(1, 2, dtype=torch.int64)
    example = half.to_float32({"x": torch.rand(1, 4).half(), "ids": ids})
    assert example["x"].dtype == torch.float32 and example["ids"] is ids
