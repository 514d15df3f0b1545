from __future__ import annotations

import torch
from torch import nn

from edgekit.networks import layer_counts


def test_convolutions_and_products() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)).eval()
    first, last = layer_counts.layers(network, [torch.rand(1, 3, 6, 6)])
    assert (first.name, first.macs, first.parameters) == ("0", 8 * 27 * 16, 8 * 27 + 8)
    assert (last.name, last.macs, last.weight_bytes) == ("3", 8 * 16 * 4, 4 * (8 * 16 * 4 + 4))
    assert first.activation_bytes == 8 * 16 * 4


def test_attention_and_recurrent_layers_are_products() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    products = 5 * 4 * 16 * 16 + 2 * 5 * 5 * 16 + 2 * 5 * 16 * 32
    assert sum(o.macs or 0 for o in layer_counts.layers(layer, [torch.rand(1, 5, 16)])) == products
    operators = layer_counts.layers(nn.LSTM(8, 16, batch_first=True), [torch.rand(1, 5, 8)])
    assert sum(operator.macs or 0 for operator in operators) == 5 * 64 * (8 + 16)
    assert sum(operator.parameters for operator in operators) == 64 * (8 + 16 + 2)
