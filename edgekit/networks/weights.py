"""Loads weights from a .safetensors file, a plain checkpoint or timm, without unpickling code."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, Missing, suggest
from edgekit.networks import checkpoints

if TYPE_CHECKING:
    from torch import nn


log = logging.getLogger("edgekit")
#: prefixes of averaged weights beside the others
EMA = ("ema", "averaged", "swa")
#: at most so many names in a message
FEW = 4


def load_weights(network: nn.Module, source: Path | str, fresh: Sequence[str] = ()) -> list[str]:
    """Load weights from a file that `checkpoints.read` reads, or `timm:NAME`.

    A prefix that all the network's tensors have in the file (`model.`, `module.`, `_orig_mod.`) is removed. One of
    several names of a shared tensor is enough; parts with a prefix in `fresh` keep their weights. Returns what was
    chosen, removed or left out, in words. Raises InputError for a pickle with anything but tensors (it is never
    executed), and for weights that do not fit, naming some mismatches.
    """
    pretrained = str(source).startswith("timm:")
    notes: list[str] = []
    target_state = network.state_dict()
    if pretrained:
        state = timm_weights(str(source).removeprefix("timm:"))
    else:
        checkpoint = checkpoints.read(Path(source))
        state, notes = _unwrapped(checkpoint.tensors, target_state)
        notes = [*checkpoint.notes, *notes]
    if notes:
        log.warning("%s: %s", source, "; ".join(notes))
    state = {name: tensor for name, tensor in state.items() if not _has_prefix(name, fresh)}
    for prefix in fresh:
        if not any(_has_prefix(name, (prefix,)) for name in target_state):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in target_state))
            raise InputError(f"the network has no part {prefix!r}", f"its parts: {known}", "use one of them in fresh")
    _check_fit(
        {name: t for name, t in target_state.items() if not _has_prefix(name, fresh)}, target_state, state, source
    )
    network.load_state_dict(state, strict=False)
    return [*notes]


def _unwrapped(state: Mapping[str, Any], target: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The tensors under the prefix with which most names are the network's own, and what was done in words.

    Of prefixes that fit equally well, one of averaged weights is taken, else the shortest.
    """

    def rank(prefix: str) -> tuple[int, bool, int]:
        fitting = sum(f"{prefix}{name}" in state for name in target)
        return fitting, any(word in prefix for word in EMA), -len(prefix)

    prefixes = {""} | {name[: place + 1] for name in state for place, letter in enumerate(name) if letter == "."}
    prefix = max(sorted(prefixes), key=rank)
    if not prefix:
        return dict(state), []
    inside = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    others = [name for name in state if not name.startswith(prefix)]
    notes = [f"the prefix {prefix!r} is removed" + (": averaged weights (EMA)" if rank(prefix)[1] else "")]
    return inside, notes + ([f"not read: {_few(others)}"] if others else [])


def _check_fit(
    wanted: Mapping[str, Any], target: Mapping[str, Any], state: Mapping[str, Any], source: Path | str
) -> None:
    """Raises InputError if the tensors are not those that are wanted; counters of batches may be missing."""
    groups = {name: group for group in _groups(target) for name in group}
    missing, shaped = [], {}
    for name, tensor in wanted.items():
        source_name = next((other for other in (name, *groups[name]) if other in state), None)
        if source_name is None:
            missing += [] if name.endswith("num_batches_tracked") else [name]
        elif state[source_name].shape != tensor.shape:
            shapes = f"{list(state[source_name].shape)} in the file, {list(tensor.shape)} in the network"
            shaped[name] = f"{name!r} is {shapes}"
    extra = [name for name in state if name not in target]
    reasons = [f"it has no tensor {_few(missing)}"] if missing else []
    reasons += (
        ["; ".join([*shaped.values()][:FEW]) + (f" and {len(shaped) - FEW} more" if len(shaped) > FEW else "")]
        if shaped
        else []
    )
    reasons += [f"the network has no tensor {_few(extra)}"] if extra else []
    if reasons:
        first = next(iter([*missing, *shaped]), "")
        hint = "check --model" + (
            f", or exclude that part: --fresh {first.rpartition('.')[0] or first}" if first else ""
        )
        raise InputError(f"{source} does not fit the network", "; ".join(reasons), hint)


def _few(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:FEW]))
    return listed + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


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
    """Tensor name → tensor. Raises InputError: see `checkpoints.read`."""
    return dict(checkpoints.read(path).tensors)


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
