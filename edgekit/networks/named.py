"""A network given by name or reference and plain arguments, with its weights in a safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, user_code
from edgekit.core.errors import InputError
from edgekit.core.user_code import running
from edgekit.networks.weights import load_weights, tensors_of, unique

if TYPE_CHECKING:
    from torch import nn


def build(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The untrained network (the first part of a factory's result). Raises InputError for an unknown name.

    Errors of the user's own code become InputErrors that name the line.
    """
    from torch import nn

    builder = registry.load("models", model)
    if user_code.is_reference(model):
        result = running(model, f"{model} failed", lambda: builder(**arguments))
    else:
        result = builder(**arguments)
    network = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(network, nn.Module):
        raise InputError(f"{model} returns a {type(network).__name__}", "it must be a torch.nn.Module", "fix its code")
    return network


def source(model: str) -> Path:
    """The file that defines the network. Raises InputError if there is none."""
    path = model.rpartition(":")[0]
    if path.endswith(".py") and Path(path).is_file():
        return Path(path)
    try:
        return registry.source("models", model)
    except (TypeError, OSError) as error:
        raise InputError(f"the source of {model} cannot be found", str(error), "name a function or a class") from error


def source_sha256(model: str) -> str:
    """sha256 of the file that defines the network."""
    return hashlib.sha256(source(model).read_bytes()).hexdigest()


def save(network: nn.Module, model: str, arguments: Mapping[str, Any], specs: Mapping[str, Any], out: Path) -> None:
    """Write both files. `specs` holds "inputs" and "outputs" (lists of TensorSpec as JSON) and other entries.

    Tensors shared by several names are written once.
    """
    from safetensors.torch import save_file

    save_file(unique(network), out / "model.safetensors")
    reference = {"loader": "named", "model": model, "arguments": dict(arguments)}
    document = {**reference, "source_sha256": source_sha256(model), **specs, "tensors": tensors_of(network)}
    (out / "model.json").write_text(json.dumps(document, indent=1) + "\n")


def load(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The trained network in eval mode, with the interface in `model.json`. Raises InputError if its source changed."""
    if source_sha256(reference["model"]) != reference["source_sha256"]:
        raise InputError(
            f"{folder} holds the weights of another version of the network {reference['model']!r}",
            "its source file has changed since",
            "create it again, or restore that version",
        )
    network = build(reference["model"], reference["arguments"])
    if "widths" in reference:
        from edgekit.networks.widths import apply

        apply(network, reference["widths"], reference["tensors"])
    load_weights(network, folder / "model.safetensors")
    network.eval()
    if "call" not in reference:
        return network
    from edgekit.networks.interface import Positional

    return Positional(network, reference["call"]).eval()
