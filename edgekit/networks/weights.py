"""Weights of a named network from a .safetensors file or a plain checkpoint; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, os_errors

if TYPE_CHECKING:
    from torch import nn


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from a .safetensors file, or a checkpoint that torch loads with `weights_only=True`.

    Raises InputError for a pickle that holds anything but tensors (it is never executed), and for weights that do not
    fit, naming the first that does not.
    """
    state = read_weights(path)
    own = network.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise InputError(f"{path} does not fit the network", f"it has no tensor {name!r}", "check --model")
        if state[name].shape != tensor.shape:
            shapes = f"{list(state[name].shape)} there, {list(tensor.shape)} in the network"
            raise InputError(f"{path} does not fit the network", f"{name!r} is {shapes}", "check --model")
    extra = [name for name in state if name not in own]
    if extra:
        raise InputError(f"{path} does not fit the network", f"the network has no tensor {extra[0]!r}", "check --model")
    network.load_state_dict(state)


def read_weights(path: Path) -> dict[str, Any]:
    """Tensor name → tensor. Raises InputError for what is not weights."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with os_errors("read", path), path.open("rb") as file:
        file.read(1)
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise InputError(f"cannot read {path}", f"not a safetensors file: {error}", "save it again") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, and every one of them means the same
        raise InputError(
            f"{path} is not a checkpoint of plain weights",
            "it is damaged, or a pickle that could run code; it was not executed",
            "where you trust it, load it yourself and save it with safetensors.torch.save_file(model.state_dict(), …)",
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict", "expected tensors by name", "save model.state_dict()")
    return state
