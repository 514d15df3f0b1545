"""How a network is called: names and types of its inputs and outputs, and which of their axes are open.

Everything is found by calling it: with an example, with the example twice, and with each open axis one longer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.user_code import run_user_code

BATCH = "batch"
#: what a sample set, and so a runtime, can hold
DTYPES = ("float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")
#: input name → axis → the name of its length; axes of one name have one length
Axes = Mapping[str, Mapping[int, str]]


class Positional(nn.Module):
    """A network that takes tensors by position and gives a tensor, or a tuple of several.

    `keywords`: the names under which the network takes the last of them, where it takes any by name.
    """

    def __init__(self, network: nn.Module, keywords: Sequence[str] = ()) -> None:
        super().__init__()
        self.network, self.keywords = network, tuple(keywords)

    def answers(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        count = len(tensors) - len(self.keywords)
        return named(self.network(*tensors[:count], **dict(zip(self.keywords, tensors[count:], strict=True))))

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = tuple(self.answers(*tensors).values())
        return found[0] if len(found) == 1 else found


@dataclass(frozen=True)
class Interface:
    """`axes` are the open ones, the batch among them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: Axes

    def to_json(self) -> dict[str, Any]:
        """The entries "inputs", "outputs" and "axes" of `model.json`."""
        axes = {name: {str(axis): length for axis, length in found.items()} for name, found in self.axes.items()}
        sides = {"inputs": self.inputs, "outputs": self.outputs}
        return {**{side: [asdict(spec) for spec in specs] for side, specs in sides.items()}, "axes": axes}


def named(outputs: Any) -> dict[str, Tensor]:
    """What a network gives, as tensors by name: a dict's or a record's own names, else `output` or `output0` and on.

    None is left out. Raises InputError, naming it, for anything else that is not a tensor.
    """
    if isinstance(outputs, Tensor):
        return {"output": outputs}
    if isinstance(outputs, Mapping):
        entries = {str(name): value for name, value in outputs.items()}
    elif isinstance(outputs, tuple | list):
        fields = getattr(outputs, "_fields", None) or [f"output{index}" for index in range(len(outputs))]
        entries = dict(zip(fields, outputs, strict=True))
    else:
        what = f"the network gives a {type(outputs).__name__}"
        raise InputError(what, "not a tensor", "return a tensor, or a tuple or dict of tensors")
    entries = {name: value for name, value in entries.items() if value is not None}
    for name, value in entries.items():
        if not isinstance(value, Tensor):
            what = f"the network's output {name!r} is a {type(value).__name__}"
            raise InputError(what, "only tensors can be outputs", "leave it out in a network around this one")
    if not entries:
        raise InputError("the network gives no tensors", next="return a tensor, or a tuple or dict of tensors")
    return {"output": next(iter(entries.values()))} if list(entries) == ["output0"] else entries


def named_inputs(network: nn.Module, example: Any) -> dict[str, Tensor]:
    """Input name → example: a dict's own names, else those of the parameters of `forward`.

    Raises InputError for what is not a tensor, of a type no sample set can hold, or more than `forward` takes.
    """
    if isinstance(example, Mapping):
        found = {str(name): value for name, value in example.items()}
    else:
        values = list(example) if isinstance(example, tuple | list) else [example]
        found = dict(zip(_parameters(network, len(values)), values, strict=True))
    if not found:
        raise InputError("the example inputs are empty", "the network would take nothing", "return at least a tensor")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            what = f"example input {name!r} is a {type(value).__name__}, not a tensor"
            next = "give torch.tensor(value) for an input, or fix it with functools.partial in a network around this"
            raise InputError(what, next=next)
        if str(value.dtype).removeprefix("torch.") not in DTYPES:
            raise InputError(f"example input {name!r} is of type {value.dtype}", next=f"known: {', '.join(DTYPES)}")
        if value.ndim and 0 in value.shape:
            why = f"its shape is {list(value.shape)}"
            raise InputError(f"example input {name!r} is empty", why, "give at least one sample")
    return {name: value.detach().cpu() for name, value in found.items()}


def _parameters(network: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(network.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return ["input"] if count == 1 else [f"input{index}" for index in range(count)]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if count > len(names):
        why = f"forward takes {', '.join(names) or 'none'}"
        raise InputError(f"there are {count} example inputs", why, "give one for each, or a dict by keyword")
    return names[:count]


def probe(network: Positional, example: Mapping[str, Tensor], axes: Axes, where: str) -> Interface:
    """How `network` is called, by calling it. `axes`: those said to be open beyond the batch; `where` names its source.

    The batch, the first axis of every input that has any, is open where the example twice gives the outputs twice.
    Raises InputError where the network cannot be called so.
    """
    _check(axes, example)
    outputs = call(network, example, where, "the example inputs do not fit the network")
    open_axes: dict[str, dict[int, str]] = {name: {} for name in example}
    moving: dict[str, set[int]] = {name: set() for name in outputs}
    if _batched(network, example, outputs):
        for name, tensor in example.items():
            open_axes[name].update({0: BATCH} if tensor.ndim else {})
        for name in outputs:
            moving[name].add(0)
    for length in sorted({length for found in axes.values() for length in found.values()}):
        longer = dict(example)
        for name, found in axes.items():
            for axis in (axis for axis, one in found.items() if one == length):
                longer[name] = grown(longer[name], axis, longer[name].shape[axis] + 1)
                open_axes[name][axis] = length
        others = call(network, longer, where, f"the network does not take another {length!r}")
        for name, tensor in outputs.items():
            pairs = zip(tensor.shape, others[name].shape, strict=True)
            moving[name] |= {axis for axis, (a, b) in enumerate(pairs) if a != b}
    inputs = tuple(spec_of(name, tensor, open_axes[name]) for name, tensor in example.items())
    taken = {spec.name for spec in inputs}
    named_apart = {name: f"{name}_out" if name in taken else name for name in outputs}
    specs = tuple(spec_of(named_apart[name], tensor, moving[name]) for name, tensor in outputs.items())
    return Interface(inputs, specs, {name: found for name, found in open_axes.items() if found})


def grown(tensor: Tensor, axis: int, size: int) -> Tensor:
    """The tensor with its own slices repeated along `axis` until there are `size`."""
    return tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])


def example_shapes(example: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in example.items()}


def _check(axes: Axes, example: Mapping[str, Tensor]) -> None:
    for name, found in axes.items():
        if name not in example:
            what = f"dynamic_axes names the input {name!r}"
            raise InputError(what, f"the inputs are {', '.join(example)}", "use one of these names")
        for axis, length in found.items():
            if not isinstance(axis, int) or not 0 < axis < example[name].ndim:
                what = f"dynamic_axes names axis {axis!r} of {name!r}"
                why = f"its shape is {list(example[name].shape)}, and axis 0 is the batch"
                raise InputError(what, why, 'for example {"input_ids": {1: "length"}}')
            if not isinstance(length, str) or not length.isidentifier() or length == BATCH:
                what = f"dynamic_axes calls axis {axis} of {name!r} {length!r}"
                raise InputError(what, "that is no name for a length", 'a word like "length"')


def _batched(network: Positional, example: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> bool:
    sizes = {tensor.shape[0] for tensor in example.values() if tensor.ndim}
    if len(sizes) != 1 or any(tensor.ndim == 0 or tensor.shape[0] != min(sizes) for tensor in outputs.values()):
        return False
    twice = {name: torch.cat([tensor, tensor]) if tensor.ndim else tensor for name, tensor in example.items()}
    try:
        with torch.inference_mode():
            found = network.answers(*twice.values())
    except Exception:  # whatever it raises, it does not take two
        return False
    return all(_is_twice(other, one) for other, one in zip(found.values(), outputs.values(), strict=True))


def _is_twice(twice: Tensor, once: Tensor) -> bool:
    """Samples must not touch each other: what runs along time on its first axis has no batch there."""
    if twice.shape != (2 * once.shape[0], *once.shape[1:]):
        return False
    a, b = twice.double(), torch.cat([once, once]).double()
    return torch.allclose(a, b, rtol=1e-2, atol=1e-3 * float(b.abs().max()) + 1e-6, equal_nan=True)


def call(network: Positional, example: Mapping[str, Tensor], where: str, what: str) -> dict[str, Tensor]:
    """What the network gives, by name. Raises InputError, beginning with `what`, for whatever it raises."""
    with torch.inference_mode():
        return run_user_code(where, what, lambda: network.answers(*example.values()))


def spec_of(name: str, tensor: Tensor, moving: Any) -> TensorSpec:
    shape = tuple(None if axis in moving else size for axis, size in enumerate(tensor.shape))
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), shape)
