"""Calling a network with named inputs, and the conversion of its inputs and outputs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit import networks
from edgekit.core.errors import InputError
from edgekit.training import processes

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def as_input(samples: Any) -> Tensor:
    """Raw values as float: the network normalises them itself, as it does on a device.

    int32 and int64 (token ids, for example) and booleans (masks) keep their type.
    """
    import torch

    tensor = samples if isinstance(samples, torch.Tensor) else torch.from_numpy(np.array(samples))
    return tensor if tensor.dtype in (torch.int32, torch.int64, torch.bool) else tensor.float()


def as_array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array


def keyword_inputs(network: nn.Module, names: Iterable[str]) -> list[str]:
    """The inputs' names if there are several and `forward` has parameters of these names; else none."""
    inputs = list(names)
    return inputs if len(inputs) > 1 and set(inputs) <= set(inspect.signature(network.forward).parameters) else []


def call(network: nn.Module, inputs: Mapping[str, Tensor], forward: Any = None) -> Any:
    """The network's outputs; `forward` is called in its place if given (compiled, or wrapped for several processes)."""
    function = network if forward is None else forward
    return function(**inputs) if keyword_inputs(network, inputs) else function(*inputs.values())


def to_float32(outputs: Any) -> Any:
    """The outputs, with float16 and bfloat16 converted to float32."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
    if isinstance(outputs, MutableMapping):
        converted = copy.copy(outputs)  # of its own type: a loss may read outputs.logits
        for name, value in outputs.items():
            converted[name] = to_float32(value)
        return converted
    if isinstance(outputs, tuple | list):
        values = [to_float32(value) for value in outputs]
        return type(outputs)(*values) if hasattr(outputs, "_fields") else values
    if is_dataclass(outputs) and not isinstance(outputs, type):
        result = copy.copy(outputs)
        for field in (field for field in fields(outputs) if hasattr(outputs, field.name)):
            object.__setattr__(result, field.name, to_float32(getattr(outputs, field.name)))  # it may be frozen
        return result
    return outputs


def specs(network: nn.Module, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Input and output specs with a dynamic batch axis, found by running two samples, and what loading needs.

    "notes": which outputs are left out. Raises InputError.
    """
    import torch

    from edgekit.networks.interface import spec_of
    from edgekit.networks.outputs import left_out, named_outputs

    inputs = {name: as_input(array[:2]) for name, array in samples.items()}
    with torch.inference_mode():
        outputs = call(network, inputs)
    kept, notes = left_out(outputs)
    sides = {"inputs": inputs, "outputs": named_outputs(outputs, kept)}
    for name, tensor in sides["outputs"].items():
        if tensor.ndim == 0 or tensor.shape[0] != len(next(iter(inputs.values()))):
            what = f"output {name!r} has shape {list(tensor.shape)} for two samples"
            raise InputError(what, "its first axis is not the batch", "fix the network's forward")
    result: dict[str, Any] = {
        side: [asdict(spec_of(name, t, {0})) for name, t in tensors.items()] for side, tensors in sides.items()
    }
    if hasattr(network, "example_states"):
        return {**result, **_with_states(network, result, inputs)}
    names = keyword_inputs(network, inputs)
    result |= {} if isinstance(outputs, torch.Tensor) and not names else {"call": names}
    return {**result, **({} if kept is None else {"kept": kept}), **({"notes": notes} if notes else {})}


def _with_states(network: nn.Module, visible: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """The entries of `model.json` of a network with states: (…, length) tokens after (…, past, size) of each state."""
    from edgekit.networks.interface import spec_of

    states = network.example_states(2)  # type: ignore[operator]
    names = {f"past_key_values.{name}": f"present.{name}" for name in states}
    inputs_of = [asdict(spec_of(name, t, {0, 2})) for name, t in zip(names, states.values(), strict=True)]
    nexts = [{**spec, "name": name} for spec, name in zip(inputs_of, names.values(), strict=True)]
    open_length = [{**spec, "shape": [None, None, *spec["shape"][2:]]} for spec in visible["inputs"]]
    open_outputs = [{**spec, "shape": [None, None, *spec["shape"][2:]]} for spec in visible["outputs"]]
    axes = {spec["name"]: {"0": "batch", "1": "length"} for spec in open_length}
    axes |= {name: {"0": "batch", "2": networks.PAST} for name in names}
    example = {name: list(tensor.shape) for name, tensor in zip(names, states.values(), strict=True)}
    example |= {name: list(tensor.shape) for name, tensor in inputs.items()}
    return {
        "inputs": [*open_length, *inputs_of],
        "outputs": [*open_outputs, *nexts],
        "states": names,
        "axes": axes,
        "example": example,
        "call": [],
        **({"context": network.context} if hasattr(network, "context") else {}),
    }


def select_device(accelerator: str) -> torch.device:
    """The named device; "auto" takes the fastest available. Raises InputError if it is not available."""
    import torch

    if isinstance(group := processes.current(), processes.DistributedProcess):
        return group.device
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, is_there in available.items() if is_there)
    if not available[accelerator]:
        raise InputError(f"torch finds no {accelerator} device", next="use --accelerator auto")
    return torch.device(accelerator)
