"""How a width multiplier and a dropout enter the shipped networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def scaled(channels: Sequence[int], width: float) -> list[int]:
    """Channels times `width` (the multiplier of https://arxiv.org/abs/1704.04861), rounded, one at least."""
    return [max(1, round(count * width)) for count in channels]


def dropped(dropout: float) -> list[nn.Module]:
    """The dropout layer, or none: a network without dropout holds no trace of it."""
    return [nn.Dropout(dropout)] if dropout else []
