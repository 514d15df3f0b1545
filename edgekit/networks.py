"""Torch networks on disk: a builder's name and arguments in `model.json`, weights in `model.safetensors`.

Nothing is unpickled. The builder is looked up among `edgekit/models/` (or entry points) by name, and its source's
sha256 must be the one it was trained with, so that a changed network is never loaded under old weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import registry
from edgekit.errors import InputError, os_errors

if TYPE_CHECKING:
    from torch import nn

NETWORK = "model.json"
WEIGHTS = "model.safetensors"


def build(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The untrained network. Raises InputError for an unknown name."""
    network: nn.Module = registry.load("models", model)(**arguments)
    return network


def source_sha256(model: str) -> str:
    """sha256 of the file that defines the network."""
    return hashlib.sha256(registry.source("models", model).read_bytes()).hexdigest()


def save(network: nn.Module, model: str, arguments: Mapping[str, Any], specs: Mapping[str, Any], out: Path) -> None:
    """Write both files. `specs` holds "inputs" and "outputs", lists of TensorSpec as JSON."""
    from safetensors.torch import save_file

    # deduplicated by name only: shared tensors would need save_model, and no network here has any
    save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, out / WEIGHTS)
    reference = {"model": model, "arguments": dict(arguments), "source_sha256": source_sha256(model), **specs}
    (out / NETWORK).write_text(json.dumps(reference, indent=1) + "\n")


def load(folder: Path) -> nn.Module:
    """The trained network in eval mode. Raises InputError where the network's source has changed since."""
    with os_errors("read", folder / NETWORK):
        reference = json.loads((folder / NETWORK).read_text())
    if source_sha256(reference["model"]) != reference["source_sha256"]:
        raise InputError(
            f"{folder} was trained with another version of the network {reference['model']!r}",
            "its source file has changed since",
            "train it again, or restore that version",
        )
    network = build(reference["model"], reference["arguments"])
    load_weights(network, folder / WEIGHTS)
    return network.eval()


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
