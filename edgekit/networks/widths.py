"""The widths of a pruned network's modules as plain numbers, from which it is rebuilt without a pickle.

A pruned network is stored as its builder's reference, its weights, and its widths: module name → attribute → integer,
or list of integers (`{"features.0": {"out_channels": 24}}`). The shapes of its tensors are in `model.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgekit.core.errors import InputError

Widths = Mapping[str, Mapping[str, Any]]


def changed_widths(before: nn.Module, after: nn.Module) -> dict[str, dict[str, Any]]:
    """The integer attributes in which the modules of two networks of one build differ, with the values of `after`."""
    old, new = _integer_attributes(before), _integer_attributes(after)
    widths = {
        name: {key: value for key, value in values.items() if old.get(name, {}).get(key, value) != value}
        for name, values in new.items()
    }
    return {name: values for name, values in widths.items() if values}


def merge(first: Widths, second: Widths) -> dict[str, dict[str, Any]]:
    """The widths after two successive prunings."""
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in [*first, *(second.keys() - first.keys())]}


def apply(network: nn.Module, widths: Widths, tensors: Mapping[str, Any]) -> None:
    """Set `widths` in a newly built network, and resize its tensors to `tensors` (name → [dtype, shape]).

    The values are undefined until weights are loaded. Raises InputError if the widths do not fit the network.
    """
    modules = dict(network.named_modules())
    numbers = _integer_attributes(network)
    for name, values in widths.items():
        for key, value in values.items():
            old = numbers.get(name, {}).get(key)
            if old is None or not _is_compatible(old, value):
                raise _mismatch(f"it has no integer {name}.{key} compatible with {value!r}")
            setattr(modules[name], key, tuple(value) if isinstance(value, list) else value)
    for names, tensor in _tensors(network):
        shape = next((list(tensors[name][1]) for name in names if name in tensors), None)
        if shape is None or shape == list(tensor.shape):
            continue
        if len(shape) != tensor.ndim or any(a > b for a, b in zip(shape, tensor.shape, strict=True)):
            raise _mismatch(f"its {names[0]} is {list(tensor.shape)}, and cannot be reduced to {shape}")
        resized = torch.empty(shape, dtype=tensor.dtype)
        if isinstance(tensor, nn.Parameter):
            resized = nn.Parameter(resized, requires_grad=tensor.requires_grad)
        for name in names:
            module_name, _, attribute = name.rpartition(".")
            setattr(modules[module_name], attribute, resized)


def _integer_attributes(network: nn.Module) -> dict[str, dict[str, Any]]:
    """Module name → its attributes that are integers, or lists of integers."""
    return {
        name: {
            key: _plain(value) for key, value in vars(module).items() if not key.startswith("_") and _is_integer(value)
        }
        for name, module in network.named_modules()
    }


def _is_integer(value: Any) -> bool:
    return type(value) is int or (
        isinstance(value, tuple | list) and bool(value) and all(type(v) is int for v in value)
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _is_compatible(old: Any, new: Any) -> bool:
    """Whether both have the same length, and all new values are from 0 to the old one."""
    if not _is_integer(new) or type(old) is not type(_plain(new)):
        return False
    pairs = zip(old, new, strict=False) if isinstance(old, list) else [(old, new)]
    return (not isinstance(old, list) or len(old) == len(new)) and all(0 <= b <= a for a, b in pairs)


def _tensors(network: nn.Module) -> list[tuple[list[str], Any]]:
    """Each tensor of the state with all its names."""
    groups: dict[int, tuple[list[str], Any]] = {}
    all_tensors = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in all_tensors:
        groups.setdefault(id(tensor), ([], tensor))[0].append(name)
    return list(groups.values())


def _mismatch(why: str) -> InputError:
    return InputError("the widths do not fit the network", why, "prune the original network again")
