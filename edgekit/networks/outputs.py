"""A network's outputs as tensors by name, flattened from dicts, dataclasses, tuples and lists."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgekit.core.errors import InputError


@dataclass(frozen=True)
class _Leaf:
    """A value inside the outputs. `keys` lead to it; `access` is the same as Python code: `outputs["features"][0]`."""

    keys: tuple[str | int, ...]
    access: str
    value: Any


def named_outputs(outputs: Any, kept: Sequence[int] | None = None) -> dict[str, Tensor]:
    """Outputs as tensors by name: the keys that lead to each, joined by `_`, or `output` for a single tensor.

    A position in the outermost tuple or list is `output0`, `output1`, …, and is left out where keys follow it. None is
    skipped. `kept`: the positions of the tensors to keep, by default all. Raises InputError, with a wrapper's code, for
    anything else than tensors in dicts, dataclasses, tuples and lists.
    """
    leaves = [leaf for leaf in _leaves(_Leaf((), "outputs", outputs)) if leaf.value is not None or not leaf.keys]
    if wrong := next((leaf for leaf in leaves if not isinstance(leaf.value, Tensor)), None):
        raise _unsupported(leaves, wrong)
    if not leaves:
        raise InputError("the network returns no tensors", next="return a tensor, or a tuple or dict of tensors")
    leaves = leaves if kept is None else [leaves[index] for index in kept]
    return dict(zip(_names(leaves), (leaf.value for leaf in leaves), strict=True))


def first_output(outputs: Any) -> Tensor:
    """The first of a network's outputs."""
    return next(iter(named_outputs(outputs).values()))


def left_out(outputs: Any) -> tuple[list[int] | None, list[str]]:
    """What no file needs to hold: `kept` of `named_outputs` if a tensor is there twice, and notes on those and None.

    This is decided once, with an example: in a trace, or without dropout, the same tensor may become two, or two one.
    """
    notes, access, tensors = [], dict[int, str](), []
    for leaf in _leaves(_Leaf((), "outputs", outputs)):
        if leaf.value is None:
            notes.append(f"{leaf.access} is left out: it is None")
            continue
        tensors.append(leaf)
        if id(leaf.value) in access:
            notes.append(f"{leaf.access} is left out: it is the same tensor as {access[id(leaf.value)]}")
        access.setdefault(id(leaf.value), leaf.access)
    kept = [index for index, leaf in enumerate(tensors) if access[id(leaf.value)] == leaf.access]
    return (kept if len(kept) < len(tensors) else None), notes


def wrapper(body: str) -> str:
    """The code of a module around a network, for the error that asks for one. `body` is what it returns."""
    return (
        "return a wrapper around it:\n\n"
        "class Wrapped(torch.nn.Module):\n"
        "    def __init__(self, network):\n"
        "        super().__init__()\n"
        "        self.network = network\n\n"
        "    def forward(self, *inputs, **named):\n"
        "        outputs = self.network(*inputs, **named)\n"
        f"        return {body}\n"
    )


def _leaves(part: _Leaf) -> Iterator[_Leaf]:
    """The values that are no containers, in order."""
    value = part.value
    entries: list[tuple[str | int, str, Any]] | None = None
    if isinstance(value, Mapping):
        entries = [(str(key), f"[{key!r}]", child) for key, child in value.items()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        entries = [(name, f".{name}", getattr(value, name)) for name in names]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        entries = [(name, f".{name}", child) for name, child in zip(value._fields, value, strict=True)]
    elif isinstance(value, tuple | list):
        entries = [(index, f"[{index}]", child) for index, child in enumerate(value)]
    if entries is None:
        yield part
        return
    for key, access, child in entries:
        yield from _leaves(_Leaf((*part.keys, key), part.access + access, child))


def _names(leaves: Sequence[_Leaf]) -> list[str]:
    """A different name for each."""
    if len(leaves) == 1 and not any(isinstance(key, str) for key in leaves[0].keys):
        return ["output"]
    uses = Counter(map(_short_name, leaves))
    names: list[str] = []
    for leaf in leaves:
        short = _short_name(leaf)
        name = short if uses[short] == 1 else _name(leaf.keys)
        while name in names:
            name += "_"
        names.append(name)
    return names


def _short_name(leaf: _Leaf) -> str:
    """Its name without the position in the outermost tuple, where keys follow."""
    first = next((index for index, key in enumerate(leaf.keys) if isinstance(key, str)), 0)
    return _name(leaf.keys[first:])


def _name(keys: tuple[str | int, ...]) -> str:
    name = "_".join(map(str, keys))
    return f"output{name}" if not keys or isinstance(keys[0], int) else name


def _unsupported(leaves: Sequence[_Leaf], leaf: _Leaf) -> InputError:
    """The error for one of the leaves that is no tensor: its type is not one that holds outputs."""
    found = [part for part in leaves if isinstance(part.value, Tensor)]
    inside = getattr(leaf.value, "__dict__", {})
    found += [_Leaf((*leaf.keys, key), f"{leaf.access}.{key}", v) for key, v in inside.items() if isinstance(v, Tensor)]
    names = _names(found) if found else []
    entries = ", ".join(f'"{name}": {part.access}' for name, part in zip(names, found, strict=True))
    what = f"the network returns a {type(leaf.value).__name__}" + (f" in {leaf.access}" if leaf.keys else "")
    why = "outputs must be tensors, in dicts, dataclasses, tuples or lists"
    return InputError(what, why, wrapper("{" + (entries or '"scores": outputs.scores') + "}"))
