"""Recurrent layers, with the gates in torch's order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgekit.networks.onnx.operators import Node, as_list, operator

#: torch's gate → its index in ONNX
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_ACTIVATIONS = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}


@operator("LSTM", "GRU", "RNN", optional_shape_inputs=(4,))
def recurrent(
    node: Node,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Any = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """x (time, batch, features) → all states (time, directions, batch, units), and the last ones of each direction.

    With layout 1 the batch is the first axis of all tensors.
    """
    direction, first = node.get("direction", "forward"), bool(node.get("layout", 0))
    directions, units = (2 if direction == "bidirectional" else 1), recurrence.shape[-1]
    relu = _check(node, directions, lengths, peepholes, x.shape[1 if first else 0])
    x = x.transpose(0, 1) if first else x
    batch = x.shape[1]
    zeros = torch.zeros(directions, batch, units, dtype=x.dtype)
    states = [zeros if s is None else s.transpose(0, 1) if first else s for s in (hidden, cell)]
    x = x.flip(0) if direction == "reverse" else x
    parameters = [p for d in range(directions) for p in _parameters(node.type, weight, recurrence, bias, d)]
    rest = (parameters, bias is not None, 1, 0.0, False, directions == 2, False)
    if node.type == "LSTM":
        result, *last = torch.lstm(x, states, *rest)
    elif node.type == "GRU":
        result, *last = torch.gru(x, states[0], *rest)
    else:
        result, *last = (torch.rnn_relu if relu else torch.rnn_tanh)(x, states[0], *rest)
    result = result.flip(0) if direction == "reverse" else result
    result = result.reshape(x.shape[0], batch, directions, units)
    if first:
        return result.transpose(0, 1), *(state.transpose(0, 1) for state in last)
    return result.permute(0, 2, 1, 3), *last


def _check(node: Node, directions: int, lengths: Any, peepholes: Tensor | None, steps: Any) -> bool:
    """Whether an RNN's activation is Relu. Raises CannotConvert for features that torch's layers do not have."""
    if lengths is not None and (isinstance(lengths, Tensor) or any(length != steps for length in as_list(lengths))):
        raise node.conversion_error("its sequences have different lengths")
    if peepholes is not None or node.get("clip") or node.get("input_forget", 0):
        raise node.conversion_error("torch's layer has no peepholes, clip or coupled gates")
    if node.type == "GRU" and not node.get("linear_before_reset", 0):
        raise node.conversion_error("torch's GRU applies the reset gate after the linear layer, this one before it")
    declared = node.get("activations") or _ACTIVATIONS[node.type] * directions
    relu = node.type == "RNN" and declared == ["Relu"] * directions
    if not relu and declared != _ACTIVATIONS[node.type] * directions:
        raise node.conversion_error(f"torch's layer has no activations {', '.join(declared)}")
    return relu


def _parameters(type: str, weight: Tensor, recurrence: Tensor, bias: Tensor | None, direction: int) -> list[Tensor]:
    """One direction's weights, and its two biases if any."""

    def ordered(gates: Tensor) -> Tensor:
        parts = gates.chunk(len(_GATES[type]))
        return torch.cat([parts[position] for position in _GATES[type]])

    tensors = [ordered(weight[direction]), ordered(recurrence[direction])]
    return tensors if bias is None else [*tensors, *(ordered(half) for half in bias[direction].chunk(2))]
