"""A pretrained encoder of the library transformers, with a new layer that tells texts apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class TextEncoder(nn.Module):
    """(N, length) token numbers, `pad` fills up → (N, classes) logits, or (N, 1) values. Pools over the text alone.

    `config`: what the config.json of the pretrained model says.
    """

    def __init__(self, config: Mapping[str, Any], classes: int, pad: int = 0, dropout: float = 0.1) -> None:
        from transformers import CONFIG_MAPPING, AutoModel

        super().__init__()
        described = CONFIG_MAPPING[config["model_type"]].from_dict({k: v for k, v in config.items() if k != "auto_map"})
        self.encoder = AutoModel.from_config(described, attn_implementation="eager").float()
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None
        self.pad = pad
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(described.hidden_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != self.pad).long()
        x = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(x.dtype)
        pooled = (x * weights).sum(dim=1) / (weights.sum(dim=1) + 1e-3)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
