"""A network by name or reference, built with plain arguments; its weights in a safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, user_code
from edgekit.core.errors import InputError
from edgekit.core.user_code import run_user_code
from edgekit.networks.weights import load_weights, tensors_of, unique

if TYPE_CHECKING:
    from torch import nn


def build(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The untrained network; of what a factory returns, the first. Raises InputError for an unknown name.

    The user's own code may raise what it likes: it becomes an InputError with its line.
    """
    from torch import nn

    maker = registry.load("models", model)
    if user_code.is_reference(model):
        made = run_user_code(model, f"{model} failed", lambda: maker(**arguments))
    else:
        made = maker(**arguments)
    network = made[0] if isinstance(made, tuple) and made else made
    if not isinstance(network, nn.Module):
        raise InputError(f"{model} gives a {type(network).__name__}", "a torch.nn.Module is wanted", "mend it")
    return network


def source(model: str) -> Path:
    """The file that defines the network. Raises InputError where there is none."""
    where = model.rpartition(":")[0]
    if where.endswith(".py") and Path(where).is_file():
        return Path(where)
    try:
        return registry.source("models", model)
    except (TypeError, OSError) as error:
        raise InputError(f"the source of {model} cannot be found", str(error), "name a function or a class") from error


def source_sha256(model: str) -> str:
    """sha256 of the file that defines the network."""
    return hashlib.sha256(source(model).read_bytes()).hexdigest()


def save(network: nn.Module, model: str, arguments: Mapping[str, Any], specs: Mapping[str, Any], out: Path) -> None:
    """Write both files. `specs` holds "inputs" and "outputs", lists of TensorSpec as JSON, and what else is known.

    Tensors that several names share are written once.
    """
    from safetensors.torch import save_file

    save_file(unique(network), out / "model.safetensors")
    reference = {"loader": "named", "model": model, "arguments": dict(arguments)}
    found = {**reference, "source_sha256": source_sha256(model), **specs, "tensors": tensors_of(network)}
    (out / "model.json").write_text(json.dumps(found, indent=1) + "\n")


def load(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The trained network in eval mode, called as `model.json` says. Raises InputError where its source has changed."""
    if source_sha256(reference["model"]) != reference["source_sha256"]:
        raise InputError(
            f"{folder} holds the weights of another version of the network {reference['model']!r}",
            "its source file has changed since",
            "make it again, or restore that version",
        )
    network = build(reference["model"], reference["arguments"])
    if "widths" in reference:
        from edgekit.networks.widths import narrow

        narrow(network, reference["widths"], reference["tensors"])
    load_weights(network, folder / "model.safetensors")
    network.eval()
    if "call" not in reference:
        return network
    from edgekit.networks.interface import Positional

    return Positional(network, reference["call"]).eval()
