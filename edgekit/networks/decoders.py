"""A Hugging Face decoder as a function of tokens and its cache: what it has computed of earlier tokens goes in and out.

Position ids and the causal mask follow from the sizes of its inputs, so that neither is an input of the file.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """(N, new) token ids and, for each layer, its keys and values (N, heads, past, head size) → logits (N, new, words)
    and the keys and values of past and new tokens.

    A layer with a sliding window keeps its whole cache; the mask hides what its window does not reach.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        config: Any = network.config
        self.config = config.get_text_config(decoder=True)
        self.layers = int(self.config.num_hidden_layers)
        self.kinds = tuple(getattr(self.config, "layer_types", None) or ())
        # transformers 5.10 renamed past_key_values
        taken = inspect.signature(network.forward).parameters
        self.cache_name = "cache" if "cache" in taken else "past_key_values"

    @property
    def states(self) -> dict[str, str]:
        """Input name → the output that is its next value, in the order of the inputs."""
        names = [f"{layer}.{what}" for layer in range(self.layers) for what in ("key", "value")]
        return {f"past_key_values.{name}": f"present.{name}" for name in names}

    def empty(self, batch: int, past: int = 0) -> list[Tensor]:
        """The states of `past` tokens, as zeros."""
        heads = int(getattr(self.config, "num_key_value_heads", None) or self.config.num_attention_heads)
        width = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        return [torch.zeros(batch, heads, past, int(width)) for _ in range(2 * self.layers)]

    def forward(self, tokens: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        from transformers.cache_utils import DynamicCache

        past, new = states[0].shape[2], tokens.shape[1]
        cache = DynamicCache()
        cache.layers = [_layer(*pair) for pair in zip(states[::2], states[1::2], strict=True)]
        positions = torch.arange(new).unsqueeze(0) + past
        output = self.network(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._masks(positions, past + new),
            use_cache=True,
            **{self.cache_name: cache},
        )
        return (output.logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)))

    def _masks(self, positions: Tensor, length: Any) -> Any:
        """What is added to the attention scores, (1, 1, new, past + new); by kind of layer if they differ."""
        distance = positions.unsqueeze(-1) - torch.arange(length)
        window = getattr(self.config, "sliding_window", None) or 0
        later = distance < 0
        hidden = {"full_attention": later, "sliding_attention": later | (distance >= window)}
        lowest = torch.finfo(torch.float32).min
        if self.kinds:
            return {kind: torch.where(hidden[kind], lowest, 0.0).unsqueeze(1) for kind in dict.fromkeys(self.kinds)}
        # older configurations name no kinds: a window is that of all layers
        return torch.where(hidden["sliding_attention" if window else "full_attention"], lowest, 0.0).unsqueeze(1)


def _layer(keys: Tensor, values: Tensor) -> Any:
    """A layer of a cache. Its own update would append them to an empty list, which OpenVINO does not convert."""
    from transformers.cache_utils import DynamicLayer

    layer = DynamicLayer()
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer
