"""Loads weights from a .safetensors file, a plain checkpoint or timm, without unpickling code."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, Missing, os_errors, suggest

if TYPE_CHECKING:
    from torch import nn


#: keys of the state dict in a checkpoint with other entries
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
#: prefixes added by DistributedDataParallel and torch.compile
WRAPPERS = ("module.", "_orig_mod.")


def load_weights(network: nn.Module, source: Path | str, fresh: Sequence[str] = ()) -> None:
    """Load weights from a .safetensors file, a checkpoint that torch loads with `weights_only=True`, or `timm:NAME`.

    One of several names of a shared tensor is enough; parts with a prefix in `fresh` keep their weights. Raises
    InputError for a pickle with anything but tensors (it is never executed), and for weights that do not fit, naming
    the first mismatch.
    """
    pretrained = str(source).startswith("timm:")
    state = timm_weights(str(source).removeprefix("timm:")) if pretrained else read_weights(Path(source))
    state = {name: tensor for name, tensor in state.items() if not _has_prefix(name, fresh)}
    target_state = network.state_dict()
    for prefix in fresh:
        if not any(_has_prefix(name, (prefix,)) for name in target_state):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in target_state))
            raise InputError(f"the network has no part {prefix!r}", f"its parts: {known}", "use one of them in fresh")
    groups = {name: group for group in _groups(target_state) for name in group}
    for name, tensor in target_state.items():
        if _has_prefix(name, fresh):
            continue
        source_name = next((other for other in (name, *groups[name]) if other in state), None)
        hint = f"check --model, or exclude that part: --fresh {name.rpartition('.')[0] or name}"
        if source_name is None:
            raise InputError(f"{source} does not fit the network", f"it has no tensor {name!r}", hint)
        if state[source_name].shape != tensor.shape:
            shapes = f"{list(state[source_name].shape)} in the file, {list(tensor.shape)} in the network"
            raise InputError(f"{source} does not fit the network", f"{name!r} is {shapes}", hint)
    extra = [name for name in state if name not in target_state]
    if extra:
        what = f"{source} does not fit the network"
        raise InputError(what, f"the network has no tensor {extra[0]!r}", "check --model")
    network.load_state_dict(state, strict=False)


def timm_weights(name: str) -> dict[str, Any]:
    """Pretrained weights of a timm network; they are downloaded only with EDGEKIT_DOWNLOAD=1.

    Raises Missing without timm, InputError for an unknown name, or if the weights are not available.
    """
    try:
        import timm
    except Exception as error:  # it imports torchvision, which may not fit this torch
        raise Missing(f"timm:{name} needs timm", f"it cannot be imported: {error}", "pip install timm") from error
    offline = {} if os.environ.get("EDGEKIT_DOWNLOAD") == "1" else {"HF_HUB_OFFLINE": "1"}
    if name.partition(".")[0] not in timm.list_models():
        hint = suggest(name, tuple(timm.list_models()))
        raise InputError(f"timm has no network {name!r}", next=hint)
    try:
        with _environment(offline):
            pretrained_network = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub client and torch.load raise many types
        reason = str(error).strip().partition("\n")[0]
        advice = "set EDGEKIT_DOWNLOAD=1 to download them" if offline else "check the name and the network"
        raise InputError(f"the weights of timm:{name} are not available", reason, advice) from error
    return dict(pretrained_network.state_dict())


def read_weights(path: Path) -> dict[str, Any]:
    """Tensor name → tensor. Raises InputError for other files."""
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
            "ask its author for .safetensors; or, on an isolated machine, load it with "
            "torch.load(…, weights_only=False) and convert it with safetensors.torch.save_file(model.state_dict(), …)",
        ) from error
    state_key = next(
        (key for key in STATE_DICT_KEYS if isinstance(state, dict) and isinstance(state.get(key), dict)), None
    )
    state = state[state_key] if state_key else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict", "it must hold tensors by name", "save model.state_dict()")
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def unique(network: nn.Module) -> dict[str, Any]:
    """The state dict on the CPU, with each tensor once, under its first name, as an independent copy."""
    state = network.state_dict()
    return {group[0]: state[group[0]].cpu().contiguous().clone() for group in _groups(state)}


def tensors_of(network: nn.Module) -> dict[str, list[Any]]:
    """Name → [dtype, shape] of each tensor once, as stored in `model.json`."""
    state = network.state_dict()
    first_names = {group[0]: state[group[0]] for group in _groups(state)}
    return {
        name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in first_names.items()
    }


def _has_prefix(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _groups(state: Mapping[str, Any]) -> list[list[str]]:
    """The names, grouped by tensor."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in state.items():
        storage = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else name
        groups.setdefault(storage, []).append(name)
    return list(groups.values())
