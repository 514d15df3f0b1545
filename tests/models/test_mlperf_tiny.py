"""MLPerf Tiny's four networks against their reference: parameters and MACs at its input and its classes.

Of https://github.com/mlcommons/tiny, benchmark/training: what Keras's `summary()` says there, all parameters, those of
normalisation included with its running statistics. MACs are those of convolutions and dense layers.
"""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.networks import named

torch = pytest.importorskip("torch")

IMAGE = {"mean": [0.0], "std": [1.0]}
#: network, arguments, input, parameters, MACs
REFERENCE: list[tuple[str, dict[str, Any], tuple[int, ...], int, int]] = [
    ("resnet8", {"shape": [3, 32, 32], "classes": 10, **IMAGE}, (1, 3, 32, 32), 78_666, 12_501_632),
    ("mobilenet-v1", {"shape": [3, 96, 96], "classes": 2, **IMAGE}, (1, 3, 96, 96), 221_794, 7_489_664),
    ("autoencoder", {"size": 640}, (1, 640), 269_992, 264_192),
    ("ds-cnn-kws", {"frames": 49, "bands": 10, "classes": 12}, (1, 49, 10), 24_908, 2_656_768),
]


@pytest.mark.parametrize(
    ("model", "arguments", "shape", "parameters", "macs"), REFERENCE, ids=[r[0] for r in REFERENCE]
)
def test_it_is_the_reference_network(
    model: str, arguments: dict[str, Any], shape: tuple[int, ...], parameters: int, macs: int
) -> None:
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    network = named.build(model, arguments).eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    running = sum(2 * norm.num_features for norm in norms)
    assert sum(tensor.numel() for tensor in network.parameters()) + running == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(shape))
    assert counter.get_total_flops() == 2 * macs


def test_a_vision_transformer_of_any_shape() -> None:
    network = named.build("vit", {"shape": [3, 32, 48], "classes": 5, **IMAGE, "patch": 8}).train()
    logits = network(torch.rand(2, 3, 32, 48))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert not [name for name, tensor in network.named_parameters() if tensor.grad is None]
