"""A network's interface: names, types and dynamic axes of its inputs and outputs.

It is determined by calls: with an example, with the example repeated, and with each dynamic axis one longer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.user_code import run_user_code
from edgekit.networks.outputs import left_out, named_outputs, wrapper

BATCH = "batch"
#: types that sample sets and runtimes support
DTYPES = ("float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")
#: input name → axis → the name of its length; axes with the same name have the same length
Axes = Mapping[str, Mapping[int, str]]
#: an error names no more outputs than this
MOST_NAMES = 6


class Positional(nn.Module):
    """A network that takes tensors by position and returns a tensor, or a tuple of several.

    `keywords`: the names of the last inputs, if the network takes them by keyword. `kept`: which of its tensors are
    returned, by default all (`outputs.left_out`).
    """

    def __init__(self, network: nn.Module, keywords: Sequence[str] = (), kept: Sequence[int] | None = None) -> None:
        super().__init__()
        self.network, self.keywords, self.kept = network, tuple(keywords), kept

    def outputs_by_name(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        return named_outputs(self.nested_outputs(*tensors), self.kept)

    def nested_outputs(self, *tensors: Tensor) -> Any:
        """The outputs as the network returns them."""
        count = len(tensors) - len(self.keywords)
        return self.network(*tensors[:count], **dict(zip(self.keywords, tensors[count:], strict=True)))

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        result = tuple(self.outputs_by_name(*tensors).values())
        return result[0] if len(result) == 1 else result


@dataclass(frozen=True)
class Interface:
    """`axes` are the dynamic axes, including the batch. `kept`: of `Positional`; `notes`: what it leaves out."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: Axes
    kept: Sequence[int] | None = None
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The entries "inputs", "outputs" and "axes" of `model.json`, and "kept" if outputs are left out."""
        axes = {name: {str(axis): length for axis, length in lengths.items()} for name, lengths in self.axes.items()}
        sides = {"inputs": self.inputs, "outputs": self.outputs}
        entries = {**{side: [spec.to_json() for spec in specs] for side, specs in sides.items()}, "axes": axes}
        return entries if self.kept is None else {**entries, "kept": list(self.kept)}


def named_inputs(network: nn.Module, example: Any) -> dict[str, Tensor]:
    """Input name → example: the names of a dict, else those of the parameters of `forward`.

    Raises InputError for other objects than tensors, an unsupported type, or more inputs than `forward` takes.
    """
    if isinstance(example, Mapping):
        result = {str(name): value for name, value in example.items()}
    else:
        values = list(example) if isinstance(example, tuple | list) else [example]
        result = dict(zip(_parameters(network, len(values)), values, strict=True))
    if not result:
        raise InputError("the example inputs are empty", "the network needs an input", "return at least one tensor")
    for name, value in result.items():
        if not isinstance(value, Tensor):
            what = f"example input {name!r} is a {type(value).__name__}, not a tensor"
            next = "use torch.tensor(value) for an input, or set it in a wrapper around the network"
            raise InputError(what, next=next)
        if str(value.dtype).removeprefix("torch.") not in DTYPES:
            raise InputError(f"example input {name!r} is of type {value.dtype}", next=f"use one of {', '.join(DTYPES)}")
        if value.ndim and 0 in value.shape:
            why = f"its shape is {list(value.shape)}"
            raise InputError(f"example input {name!r} is empty", why, "use at least one sample")
    return {name: value.detach().cpu() for name, value in result.items()}


def _parameters(network: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(network.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return ["input"] if count == 1 else [f"input{index}" for index in range(count)]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if count > len(names):
        why = f"forward takes {', '.join(names) or 'none'}"
        raise InputError(f"there are {count} example inputs", why, "use one for each, or a dict by keyword")
    return names[:count]


def probe(network: Positional, example: Mapping[str, Tensor], axes: Axes, where: str) -> Interface:
    """The interface of `network`, by calling it. `axes`: dynamic axes besides the batch; `where` names the source.

    It leaves out the outputs that are there twice from now on. The first axis of all inputs is a dynamic batch if
    repeating the example repeats the outputs. Raises InputError if a call fails.
    """
    _check(axes, example)
    wrong = "the example inputs do not fit the network"
    with torch.inference_mode():
        nested = run_user_code(where, wrong, lambda: network.nested_outputs(*example.values()))
    network.kept, notes = left_out(nested)
    outputs = named_outputs(nested, network.kept)
    _check_numbers(network, example, outputs)
    open_axes: dict[str, dict[int, str]] = {name: {} for name in example}
    dynamic_axes: dict[str, set[int]] = {name: set() for name in outputs}
    if _has_batch_axis(network, example, outputs):
        for name, tensor in example.items():
            open_axes[name].update({0: BATCH} if tensor.ndim else {})
        for name in outputs:
            dynamic_axes[name].add(0)
    for length in sorted({length for lengths in axes.values() for length in lengths.values()}):
        longer_inputs = dict(example)
        for name, lengths in axes.items():
            for axis in (axis for axis, other in lengths.items() if other == length):
                longer_inputs[name] = repeat_along(longer_inputs[name], axis, longer_inputs[name].shape[axis] + 1)
                open_axes[name][axis] = length
        longer_outputs = call(network, longer_inputs, where, f"the network does not accept another {length!r}")
        if longer_outputs.keys() != outputs.keys():
            raise _other_structure(outputs, longer_outputs, f"another {length!r}")
        for name, tensor in outputs.items():
            pairs = zip(tensor.shape, longer_outputs[name].shape, strict=True)
            dynamic_axes[name] |= {axis for axis, (a, b) in enumerate(pairs) if a != b}
    inputs = tuple(spec_of(name, tensor, open_axes[name]) for name, tensor in example.items())
    input_names = {spec.name for spec in inputs}
    output_names = {name: f"{name}_out" if name in input_names else name for name in outputs}
    specs = tuple(spec_of(output_names[name], tensor, dynamic_axes[name]) for name, tensor in outputs.items())
    axes = {name: lengths for name, lengths in open_axes.items() if lengths}
    return Interface(inputs, specs, axes, network.kept, notes)


def _other_structure(outputs: Mapping[str, Tensor], others: Mapping[str, Tensor], inputs: str) -> InputError:
    what = f"the network returns {len(outputs)} tensors for its example inputs, and {len(others)} for {inputs}"
    names = ", ".join(list(outputs)[:MOST_NAMES]), ", ".join(list(others)[:MOST_NAMES])
    why = f"{names[0]}; then {names[1]}: a model's file always has the same outputs"
    return InputError(what, why, wrapper("outputs[0]  # those of one sample"))


def repeat_along(tensor: Tensor, axis: int, size: int) -> Tensor:
    """The tensor with its slices repeated along `axis` up to `size`."""
    return tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])


def example_shapes(example: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in example.items()}


def _check(axes: Axes, example: Mapping[str, Tensor]) -> None:
    for name, lengths in axes.items():
        if name not in example:
            what = f"dynamic_axes names the input {name!r}"
            raise InputError(what, f"the inputs are {', '.join(example)}", "use one of them")
        for axis, length in lengths.items():
            if not isinstance(axis, int) or not 0 < axis < example[name].ndim:
                what = f"dynamic_axes names axis {axis!r} of {name!r}"
                why = f"its shape is {list(example[name].shape)}, and axis 0 is the batch"
                raise InputError(what, why, 'write, for example, {"input_ids": {1: "length"}}')
            if not isinstance(length, str) or not length.isidentifier() or length == BATCH:
                what = f"dynamic_axes names axis {axis} of {name!r} {length!r}"
                raise InputError(what, "this is not a valid name", 'use a name like "length"')


def _check_numbers(network: nn.Module, example: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    """Raises InputError for an output that holds NaN, naming where it comes from if that is the example or a weight."""
    nan = next((name for name, tensor in outputs.items() if _has_nan(tensor)), None)
    if nan is None:
        return
    tensors = {name.removeprefix("network."): tensor for name, tensor in network.state_dict().items()}
    wrong = [f"its example input {name!r} holds NaN" for name, tensor in example.items() if _has_nan(tensor)]
    wrong += [f"its weight {name} holds NaN" for name, tensor in tensors.items() if _has_nan(tensor)]
    why = wrong[0] if wrong else "none of its weights holds NaN: it computes them, for example as 0 / 0"
    what = f"the network's output {nan!r} holds NaN for its example inputs"
    raise InputError(what, why, "load other weights, or return example inputs like real ones")


def _has_nan(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and bool(tensor.isnan().any())


def close(first: Tensor, second: Tensor, rtol: float, share: float, atol: float = 0.0) -> bool:
    """Whether `second` is within `rtol`, or `share` of the largest finite magnitude; infinities at the same places."""
    first, second = first.double(), second.double()
    finite = first[first.isfinite()].abs()
    largest = float(finite.max()) if len(finite) else 0.0
    return torch.allclose(second, first, rtol=rtol, atol=share * largest + atol, equal_nan=True)


def _has_batch_axis(network: Positional, example: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> bool:
    """Raises InputError if the number of outputs depends on the batch."""
    sizes = {tensor.shape[0] for tensor in example.values() if tensor.ndim}
    if len(sizes) != 1:
        return False
    doubled = {name: torch.cat([tensor, tensor]) if tensor.ndim else tensor for name, tensor in example.items()}
    try:
        with torch.inference_mode():
            result = network.outputs_by_name(*doubled.values())
    except Exception:  # any error means that it does not accept a batch of two
        return False
    if result.keys() != outputs.keys():
        raise _other_structure(outputs, result, "a batch twice as large")
    if any(tensor.ndim == 0 or tensor.shape[0] != min(sizes) for tensor in outputs.values()):
        return False
    return all(_is_doubled(a, b) for a, b in zip(result.values(), outputs.values(), strict=True))


def _is_doubled(doubled: Tensor, single: Tensor) -> bool:
    """Whether the outputs are repeated: samples must be independent, unlike time steps on the first axis."""
    if doubled.shape != (2 * single.shape[0], *single.shape[1:]):
        return False
    return close(torch.cat([single, single]), doubled, 1e-2, 1e-3, 1e-6)


def call(network: Positional, example: Mapping[str, Tensor], where: str, what: str) -> dict[str, Tensor]:
    """The outputs by name. Any error becomes an InputError that begins with `what`."""
    with torch.inference_mode():
        return run_user_code(where, what, lambda: network.outputs_by_name(*example.values()))


def spec_of(name: str, tensor: Tensor, dynamic_axes: Any) -> TensorSpec:
    shape = tuple(None if axis in dynamic_axes else size for axis, size in enumerate(tensor.shape))
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), shape)
