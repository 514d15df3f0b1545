"""Weights of a named network from a .safetensors file or a plain checkpoint; nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, Missing, os_errors, suggest

if TYPE_CHECKING:
    from torch import nn


#: what a checkpoint may hold its weights under, among other things
HOLDERS = ("state_dict", "model_state_dict", "model")
#: what wrappers put before every name: several processes, and torch.compile
WRAPPERS = ("module.", "_orig_mod.")


def load_weights(network: nn.Module, source: Path | str, fresh: Sequence[str] = ()) -> None:
    """Fill `network` from a .safetensors file, a checkpoint that torch loads with `weights_only=True`, or `timm:NAME`.

    Of the names that share a tensor, one is enough; parts that start with a prefix in `fresh` stay as they are. Raises
    InputError for a pickle that holds anything but tensors (it is never executed), and for weights that do not fit,
    naming the first that does not.
    """
    pretrained = str(source).startswith("timm:")
    state = timm_weights(str(source).removeprefix("timm:")) if pretrained else read_weights(Path(source))
    state = {name: tensor for name, tensor in state.items() if not _under(name, fresh)}
    own = network.state_dict()
    for prefix in fresh:
        if not any(_under(name, (prefix,)) for name in own):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in own))
            raise InputError(f"the network has no part {prefix!r}", f"its parts: {known}", "mend fresh")
    groups = {name: group for group in _groups(own) for name in group}
    for name, tensor in own.items():
        if _under(name, fresh):
            continue
        same = next((other for other in (name, *groups[name]) if other in state), None)
        hint = f"check --model, or leave that part as it is: --fresh {name.rpartition('.')[0] or name}"
        if same is None:
            raise InputError(f"{source} does not fit the network", f"it has no tensor {name!r}", hint)
        if state[same].shape != tensor.shape:
            shapes = f"{list(state[same].shape)} there, {list(tensor.shape)} in the network"
            raise InputError(f"{source} does not fit the network", f"{name!r} is {shapes}", hint)
    extra = [name for name in state if name not in own]
    if extra:
        what = f"{source} does not fit the network"
        raise InputError(what, f"the network has no tensor {extra[0]!r}", "check --model")
    network.load_state_dict(state, strict=False)


def timm_weights(name: str) -> dict[str, Any]:
    """Pretrained weights of timm's network of that name. Nothing is downloaded unless EDGEKIT_DOWNLOAD=1 is set.

    Raises Missing without timm, InputError for a name it does not know, or weights that are not on this machine.
    """
    try:
        import timm
    except Exception as error:  # torchvision, which it imports, may not fit this torch
        raise Missing(f"timm:{name} needs timm", f"it cannot be imported: {error}", "pip install timm") from error
    offline = {} if os.environ.get("EDGEKIT_DOWNLOAD") == "1" else {"HF_HUB_OFFLINE": "1"}
    if name.partition(".")[0] not in timm.list_models():
        hint = suggest(name, tuple(timm.list_models()))
        raise InputError(f"timm has no network {name!r}", next=hint)
    try:
        with _environment(offline):
            made = timm.create_model(name, pretrained=True)
    except Exception as error:  # whatever its hub client, or torch.load with weights_only, raises
        said = str(error).strip().partition("\n")[0]
        how = "EDGEKIT_DOWNLOAD=1 lets it be downloaded" if offline else "check the name and the network"
        raise InputError(f"the weights of timm:{name} cannot be had", said, how) from error
    return dict(made.state_dict())


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
            "ask its author for .safetensors; or, on a machine that holds nothing of value, load it with "
            "torch.load(…, weights_only=False) and keep safetensors.torch.save_file(model.state_dict(), …)",
        ) from error
    held = next((key for key in HOLDERS if isinstance(state, dict) and isinstance(state.get(key), dict)), None)
    state = state[held] if held else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict", "expected tensors by name", "save model.state_dict()")
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def unique(network: nn.Module) -> dict[str, Any]:
    """The state dict on the CPU with every tensor once, under the first of its names, and with memory of its own."""
    state = network.state_dict()
    return {group[0]: state[group[0]].cpu().contiguous().clone() for group in _groups(state)}


def tensors_of(network: nn.Module) -> dict[str, list[Any]]:
    """Name → [dtype, shape] of every tensor once, as `model.json` holds them."""
    state = network.state_dict()
    found = {group[0]: state[group[0]] for group in _groups(state)}
    return {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in found.items()}


def _under(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _groups(state: Mapping[str, Any]) -> list[list[str]]:
    """The names, those of one tensor together."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else name
        groups.setdefault(place, []).append(name)
    return list(groups.values())
