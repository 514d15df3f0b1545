"""What pruning changed in a network's modules, as plain numbers: enough to build it again, no pickle.

A pruned network is its builder's reference, its weights, and its widths: module name → attribute → whole number, or
list of them (`{"features.0": {"out_channels": 24}}`). The shapes of its tensors stand in `model.json` anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgekit.core.errors import InputError

Widths = Mapping[str, Mapping[str, Any]]


def changed(before: nn.Module, after: nn.Module) -> dict[str, dict[str, Any]]:
    """The whole numbers in which the modules of two networks of one build differ, those of `after`."""
    old, new = _numbers(before), _numbers(after)
    found = {
        name: {key: value for key, value in values.items() if old.get(name, {}).get(key, value) != value}
        for name, values in new.items()
    }
    return {name: values for name, values in found.items() if values}


def joined(first: Widths, second: Widths) -> dict[str, dict[str, Any]]:
    """What two prunings, one after the other, changed."""
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in [*first, *(second.keys() - first.keys())]}


def narrow(network: nn.Module, widths: Widths, tensors: Mapping[str, Any]) -> None:
    """Bring a freshly built network to `widths`, its tensors to the shapes of `tensors` (name → [dtype, shape]).

    What the tensors hold is undefined until weights are loaded. Raises InputError where the two are not of one build.
    """
    modules = dict(network.named_modules())
    numbers = _numbers(network)
    for name, values in widths.items():
        for key, value in values.items():
            old = numbers.get(name, {}).get(key)
            if old is None or not _alike(old, value):
                raise _misfit(f"it has no whole number {name}.{key} like {value!r}")
            setattr(modules[name], key, tuple(value) if isinstance(value, list) else value)
    for names, tensor in _tensors(network):
        shape = next((list(tensors[name][1]) for name in names if name in tensors), None)
        if shape is None or shape == list(tensor.shape):
            continue
        if len(shape) != tensor.ndim or any(a > b for a, b in zip(shape, tensor.shape, strict=True)):
            raise _misfit(f"its {names[0]} is {list(tensor.shape)}, and cannot be cut to {shape}")
        smaller = torch.empty(shape, dtype=tensor.dtype)
        if isinstance(tensor, nn.Parameter):
            smaller = nn.Parameter(smaller, requires_grad=tensor.requires_grad)
        for name in names:
            owner, _, leaf = name.rpartition(".")
            setattr(modules[owner], leaf, smaller)


def _numbers(network: nn.Module) -> dict[str, dict[str, Any]]:
    """Module name → its own attributes that are whole numbers, or several of them."""
    return {
        name: {key: _plain(value) for key, value in vars(module).items() if not key.startswith("_") and _whole(value)}
        for name, module in network.named_modules()
    }


def _whole(value: Any) -> bool:
    return type(value) is int or (
        isinstance(value, tuple | list) and bool(value) and all(type(v) is int for v in value)
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _alike(old: Any, new: Any) -> bool:
    """Both a number, or both as many, and none of the new ones larger or below zero."""
    if not _whole(new) or type(old) is not type(_plain(new)):
        return False
    pairs = zip(old, new, strict=False) if isinstance(old, list) else [(old, new)]
    return (not isinstance(old, list) or len(old) == len(new)) and all(0 <= b <= a for a, b in pairs)


def _tensors(network: nn.Module) -> list[tuple[list[str], Any]]:
    """Every tensor of the state with all of its names."""
    groups: dict[int, tuple[list[str], Any]] = {}
    every = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in every:
        groups.setdefault(id(tensor), ([], tensor))[0].append(name)
    return list(groups.values())


def _misfit(why: str) -> InputError:
    return InputError("the widths do not fit the network", why, "make it again with the network it was made from")
