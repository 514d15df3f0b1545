"""A network by name or reference, built with plain arguments; its weights in a safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import registry
from edgekit.errors import InputError
from edgekit.networks.weights import load_weights

if TYPE_CHECKING:
    from torch import nn


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
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    save_file(state, out / "model.safetensors")
    reference = {"model": model, "arguments": dict(arguments), "source_sha256": source_sha256(model), **specs}
    (out / "model.json").write_text(json.dumps(reference, indent=1) + "\n")


def load(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The trained network in eval mode. Raises InputError where the network's source has changed since."""
    if source_sha256(reference["model"]) != reference["source_sha256"]:
        raise InputError(
            f"{folder} was trained with another version of the network {reference['model']!r}",
            "its source file has changed since",
            "train it again, or restore that version",
        )
    network = build(reference["model"], reference["arguments"])
    load_weights(network, folder / "model.safetensors")
    return network.eval()
