"""How a network is called with named inputs, and what its values are in and out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.training import processes

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def as_input(samples: Any) -> Tensor:
    """Raw values as float, so that the network's own normalisation sees what a device would give it.

    int32 and int64 are numbers of words or the like, and truth values are masks: these stay as they are.
    """
    import torch

    tensor = samples if isinstance(samples, torch.Tensor) else torch.from_numpy(np.array(samples))
    return tensor if tensor.dtype in (torch.int32, torch.int64, torch.bool) else tensor.float()


def as_array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array


def keywords(network: nn.Module, names: Iterable[str]) -> list[str]:
    """The inputs' names, where there are several and `forward` has parameters of these names; else none."""
    wanted = list(names)
    return wanted if len(wanted) > 1 and set(wanted) <= set(inspect.signature(network.forward).parameters) else []


def call(network: nn.Module, inputs: Mapping[str, Tensor], through: Any = None) -> Any:
    """What the network gives; `through` is what to call in its place: it compiled, or shared between processes."""
    called = network if through is None else through
    return called(**inputs) if keywords(network, inputs) else called(*inputs.values())


def floats(outputs: Any) -> Any:
    """The same outputs, those of fewer than 32 bits as float32."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
    if isinstance(outputs, Mapping):
        return {name: floats(value) for name, value in outputs.items()}
    if isinstance(outputs, tuple | list):
        return type(outputs)(*map(floats, outputs)) if hasattr(outputs, "_fields") else [floats(v) for v in outputs]
    return outputs


def specs(network: nn.Module, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Input and output specs, the batch axis open, found by running two samples. Raises InputError."""
    import torch

    from edgekit.networks.interface import named, spec_of

    inputs = {name: as_input(array[:2]) for name, array in samples.items()}
    with torch.inference_mode():
        made = call(network, inputs)
    sides = {"inputs": inputs, "outputs": named(made)}
    for name, tensor in sides["outputs"].items():
        if tensor.ndim == 0 or tensor.shape[0] != len(next(iter(inputs.values()))):
            what = f"output {name!r} has shape {list(tensor.shape)} for two samples"
            raise InputError(what, "its first axis is not the batch", "mend the network's forward")
    found = {side: [asdict(spec_of(name, t, {0})) for name, t in tensors.items()] for side, tensors in sides.items()}
    names = keywords(network, inputs)
    return found if isinstance(made, torch.Tensor) and not names else {**found, "call": names}


def chosen_device(accelerator: str) -> torch.device:
    """The device asked for; "auto" takes the best there is. Raises InputError where it is not there."""
    import torch

    if isinstance(group := processes.current(), processes.Several):
        return group.device
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, available in there.items() if available)
    if not there[accelerator]:
        raise InputError(f"torch sees no {accelerator} here", next="use --accelerator auto")
    return torch.device(accelerator)
