"""Torch networks on disk: `model.json` says how to build one, and its weights lie beside it. Nothing is unpickled.

A `loader` (a file of this folder) knows each way:

- `named`: a network of `edgekit/models/`, an entry point or the user's own `net.py:Net`, with its arguments; weights in
  `model.safetensors`. Where its code has changed since, its parameters and its outputs must be the same as before
  (`outputs.safetensors`), so that another network is never loaded under old weights.
- `pt2`, `keras`: a whole model from elsewhere, in `model.pt2` or `model.keras`; `onnx`: one made from an ONNX file.

`model.json` also holds "inputs" and "outputs" (lists of TensorSpec as JSON), "example" (input name → the shape that the
exporters trace with) and "tensors" (name → [dtype, shape] of the state dict).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, os_errors

if TYPE_CHECKING:
    from torch import nn

NETWORK = "model.json"

WEIGHTS = "model.safetensors"

#: example inputs by name, where the network came with some
EXAMPLE = "example.safetensors"

#: loader → its module; a name in a file from elsewhere can mean nothing else
LOADERS = ("named", "pt2", "keras", "onnx")


def reference(folder: Path) -> Mapping[str, Any]:
    """What `model.json` says. Raises InputError where it is damaged."""
    with os_errors("read", folder / NETWORK):
        text = (folder / NETWORK).read_text()
    try:
        found: Mapping[str, Any] = json.loads(text)
        if found.get("loader", "named") not in LOADERS:
            raise ValueError
    except (ValueError, AttributeError) as error:
        raise InputError(f"{folder / NETWORK} does not describe a network", "it is damaged", "make it again") from error
    return found


def load(folder: Path) -> nn.Module:
    """The network in eval mode. Raises InputError where it cannot be built as it was."""
    found = reference(folder)
    loader = importlib.import_module(f"edgekit.networks.{found.get('loader', 'named')}")
    network: nn.Module = loader.load(folder, found)
    return network


def write(out: Path, loader: str, entries: Mapping[str, Any]) -> None:
    """`model.json` of a network whose own file lies in `out` already."""
    (out / NETWORK).write_text(json.dumps({"loader": loader, **entries}, indent=1) + "\n")
