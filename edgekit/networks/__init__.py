"""Torch networks on disk: `model.json` describes how to build one, its weights are in the same folder. No pickles.

The `loader` is a module of this package:

- `named`: a network of `edgekit/models/`, an entry point or the user's own `net.py:Net`, with its arguments; weights in
  `model.safetensors`. Where its code has changed since, its parameters and its outputs must be the same as before
  (`outputs.safetensors`), so that another network is never loaded under old weights.
- `pt2`, `keras`: a whole model from elsewhere, in `model.pt2` or `model.keras`; `onnx`: one made from an ONNX file.
- `hugging_face`: a network of the library transformers; `config.json` and `model.safetensors`, as it writes them.

`model.json` also holds "inputs" and "outputs" (lists of TensorSpec as JSON), "states" (of a network with states, which
come last on both sides, by name the input and the output that is its next value), "example" (input name → shape of the
exporters' example input) and "tensors" (name → [dtype, shape] of the state dict).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, user_code
from edgekit.core.errors import InputError
from edgekit.core.json import AGAIN, read

if TYPE_CHECKING:
    from torch import nn

NETWORK = "model.json"

WEIGHTS = "model.safetensors"

#: example inputs by name, if the network has any
EXAMPLE = "example.safetensors"

#: the name of a dynamic axis that may be empty: how much of a text a state holds
PAST = "past"

#: loaders, which are modules; an imported file can name no others
LOADERS = ("named", "pt2", "keras", "onnx", "hugging_face")


def reference(folder: Path) -> Mapping[str, Any]:
    """The contents of `model.json`. Raises InputError if it is damaged."""
    entries = read(folder / NETWORK, AGAIN)
    loader = entries.get("loader", "named")
    if loader not in LOADERS:
        what, why = f"{folder / NETWORK} does not describe a network", f"there is no loader {loader!r:.60}"
        raise InputError(what, why, AGAIN)
    return entries


def load(folder: Path) -> nn.Module:
    """The network in eval mode. Raises InputError if it cannot be built as saved."""
    entries = reference(folder)
    loader = importlib.import_module(f"edgekit.networks.{entries.get('loader', 'named')}")
    network: nn.Module = loader.load(folder, entries)
    return network


def check_code(folder: Path) -> None:
    """Raises InputError if the network is code that the user has not named."""
    model = reference(folder).get("model", "")
    if not isinstance(model, str):
        raise InputError(f"{folder / NETWORK} is damaged", "model is not a name", AGAIN)
    if registry.is_own("models", model):
        user_code.check_typed(model)


def write(out: Path, loader: str, entries: Mapping[str, Any]) -> None:
    """Write `model.json` of a network whose model file is already in `out`."""
    (out / NETWORK).write_text(json.dumps({"loader": loader, **entries}, indent=1) + "\n")
