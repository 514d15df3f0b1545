"""Weights of a named network from a .safetensors file or a plain checkpoint; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, os_errors

if TYPE_CHECKING:
    from torch import nn


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from a .safetensors file, or a checkpoint that torch loads with `weights_only=True`.

    Of the names that share a tensor, one is enough. Raises InputError for a pickle that holds anything but tensors (it
    is never executed), and for weights that do not fit, naming the first that does not.
    """
    state = read_weights(path)
    own = network.state_dict()
    groups = {name: group for group in _groups(own) for name in group}
    for name, tensor in own.items():
        same = next((other for other in (name, *groups[name]) if other in state), None)
        if same is None:
            raise InputError(f"{path} does not fit the network", f"it has no tensor {name!r}", "check --model")
        if state[same].shape != tensor.shape:
            shapes = f"{list(state[same].shape)} there, {list(tensor.shape)} in the network"
            raise InputError(f"{path} does not fit the network", f"{name!r} is {shapes}", "check --model")
    extra = [name for name in state if name not in own]
    if extra:
        raise InputError(f"{path} does not fit the network", f"the network has no tensor {extra[0]!r}", "check --model")
    network.load_state_dict(state, strict=False)


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


def unique(network: nn.Module) -> dict[str, Any]:
    """The state dict on the CPU with every tensor once, under the first of its names, and with memory of its own."""
    state = network.state_dict()
    return {group[0]: state[group[0]].cpu().contiguous().clone() for group in _groups(state)}


def tensors_of(network: nn.Module) -> dict[str, list[Any]]:
    """Name → [dtype, shape] of every tensor once, as `model.json` holds them."""
    state = network.state_dict()
    found = {group[0]: state[group[0]] for group in _groups(state)}
    return {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in found.items()}


def _groups(state: Mapping[str, Any]) -> list[list[str]]:
    """The names, those of one tensor together."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else name
        groups.setdefault(place, []).append(name)
    return list(groups.values())
