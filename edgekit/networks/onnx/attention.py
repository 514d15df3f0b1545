"""Operators of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.networks.onnx.operators import Node, operator


@operator("RotaryEmbedding")
def rotary_embedding(node: Node, x: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | None = None) -> Tensor:
    """`x`: (batch, heads, length, size), or (batch, length, heads * size)."""
    by_head = x.transpose(1, 2) if x.ndim == 4 else _by_head(x, node.get("num_heads", 0))
    width = node.get("rotary_embedding_dim", 0) or by_head.shape[-1]
    rotated, rest = by_head[..., :width], by_head[..., width:]
    if positions is not None:
        cosines, sines = functional.embedding(positions, cosines), functional.embedding(positions, sines)
    cosines, sines = cosines.unsqueeze(-2), sines.unsqueeze(-2)
    if node.get("interleaved", 0):
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        turned = torch.stack([cosines * a - sines * b, sines * a + cosines * b], -1).flatten(-2)
    else:
        a, b = rotated[..., : width // 2], rotated[..., width // 2 :]
        turned = torch.cat([cosines * a - sines * b, sines * a + cosines * b], -1)
    result = torch.cat([turned, rest], -1)
    return result.transpose(1, 2) if x.ndim == 4 else result.flatten(-2)


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


@operator("Attention")
def attention(
    node: Node,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Any:
    """Each is (batch, heads, length, size), or (batch, length, heads * size)."""
    if past_key is not None or past_value is not None or lengths is not None:
        raise node.conversion_error("it continues from keys and values of earlier calls")
    if any(map(node.has_output, (1, 2, 3))):
        raise node.conversion_error("its keys, values or scores are outputs, too")
    if windows := sorted(name for name in node.attributes if "window" in name):
        raise node.conversion_error(f"its attribute {windows[0]} is not supported")
    flat = query.ndim == 3
    if flat:
        query = _by_head(query, node.get("q_num_heads")).transpose(1, 2)
        key, value = (_by_head(t, node.get("kv_num_heads")).transpose(1, 2) for t in (key, value))
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    scores = query @ key.transpose(-1, -2) * (node.get("scale", 0.0) or query.shape[-1] ** -0.5)
    if cap := node.get("softcap", 0.0):
        scores = cap * torch.tanh(scores / cap)
    if node.get("is_causal", 0):
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if mask is not None:
        if mask.shape[-1] != scores.shape[-1]:
            raise node.conversion_error("its mask covers a part of the keys")
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, -1)
    if mask is not None:  # where all is masked the result is zero
        weights = weights.masked_fill((scores == float("-inf")).all(-1, keepdim=True), 0.0)
    result = weights @ value
    return result.transpose(1, 2).flatten(-2) if flat else result
