"""Reshapes that are no flattening: their layers stay whole, the others are pruned."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
torch_pruning = pytest.importorskip("torch_pruning")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from edgekit.compression import channels, dependencies  # noqa: E402
from edgekit.compression.channels import Cut  # noqa: E402


class Windows(nn.Module):
    """Attention in windows over NHWC images, with the weights as arguments of a function, and an MLP, as in Swin."""

    def __init__(self, width: int = 24, heads: int = 2) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(16, heads))
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.heads = heads
        self.register_buffer("places", torch.randint(0, 16, (16 * 16,)))

    def attention(self, x: Tensor) -> Tensor:
        n, height, width, c = x.shape
        x = x.roll((-2, -2), (1, 2)).view(n, height // 4, 4, width // 4, 4, c)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        qkv = functional.linear(x, self.qkv.weight, self.qkv.bias).reshape(len(x), 16, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self.bias[self.places].view(16, 16, -1).permute(2, 0, 1).unsqueeze(0)
        mixed = ((q @ k.transpose(-2, -1) + bias).softmax(-1) @ v).transpose(1, 2).reshape(len(x), 16, c)
        y = functional.linear(mixed, self.proj.weight, self.proj.bias)
        y = y.view(n, height // 4, width // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, height, width, c)
        return y.roll((2, 2), (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        result: Tensor = x + self.mlp(x)
        return result


class Shifted(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 24, 2, 2), nn.Sequential(*(Windows() for _ in range(blocks)))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(y, 1).flatten(1))
        return logits


def test_attention_in_windows() -> None:
    torch.manual_seed(0)
    result: Any = channels.cut(Shifted(3).eval(), (torch.randn(1, 3, 16, 16),), Cut(0.5))
    assert [block.mlp[1].out_features for block in result.network.blocks] == [32] * 3
    assert "stem" in result.whole and result.network.stem.out_channels == 24


class Flat(nn.Module):
    """What is a flattening, of images and of series."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        convolution = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
        self.first, self.second = convolution(3, 16, 3), convolution(16, 32, 3)
        self.head = nn.Linear(32 * 4**axes, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        logits: Tensor = self.head(y.view(len(y), -1))
        return logits


@pytest.mark.parametrize("axes", [1, 2])
def test_a_flattening_is_followed(axes: int) -> None:
    torch.manual_seed(0)
    network: Any = channels.cut(Flat(axes).eval(), (torch.randn(2, 3, *[8] * axes),), Cut(0.5)).network
    assert network.second.out_channels == 16 and network.head.in_features == 16 * 4**axes


def test_a_group_that_grows_too_large_is_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is pruned, and Torch-Pruning is left as it was."""
    torch.manual_seed(0)
    before = torch_pruning.dependency.group.Group.add_dep
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(576, 32), nn.Linear(32, 5)
    monkeypatch.setattr(dependencies, "MOST_DEPENDENCIES", 3)
    result: Any = channels.cut(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 10, 10),), Cut(0.5))
    assert result.whole[0] == "2" and result.network[2].out_channels == 16
    assert (result.network[0].out_channels, result.network[4].out_features) == (8, 16)
    assert torch_pruning.dependency.group.Group.add_dep is before


def test_indices_are_counted_before_they_are_made() -> None:
    mapping = torch_pruning.dependency.index_mapping._FlattenIndexMapping(stride=10**12)
    with dependencies.checked(nn.Linear(4, 4)), pytest.raises(dependencies.TooManyIndices):
        mapping(range(10))


class Grouped(nn.Module):
    """Groups of channels that meet others: the importance of 40 channels cannot be had in groups of 3."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.last = nn.Conv2d(3, 40, 1), nn.Conv2d(3, 32, 1), nn.Conv2d(32, 4, 1)
        self.grouped = nn.Conv2d(72, 72, 3, groups=3)
        self.join = nn.Conv2d(72, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.join(self.grouped(torch.cat([self.first(x), self.other(x)], 1)).relu())
        result: Tensor = self.last(y.relu()).mean((2, 3))
        return result


def test_channels_that_do_not_fit_their_groups() -> None:
    torch.manual_seed(0)
    result: Any = channels.cut(Grouped().eval(), (torch.randn(1, 3, 8, 8),), Cut(0.5))
    assert result.network.join.out_channels == 16
    assert "first" in result.whole
