"""Is a network whose code has changed still the same one? It is, if its parameters and what it computes are.

What it computes is kept as some of its outputs on two sets of inputs that are the same on every machine: values in
[-1, 1), and in [0, 255) as raw images have them. Integers, which may be numbers of words, are those of the example that
the network came with, else as varied as its tables allow. Outputs are compared within a tolerance: rounding differs
between machines.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.networks.interface import Positional
from edgekit.networks.outputs import named_outputs

log = logging.getLogger("edgekit")

FILE = "outputs.safetensors"
#: so many values of each output are kept, evenly spread over it
KEPT = 256
#: largest difference, as a share of the largest value: of float32 and wider, and of narrower types
TOLERANCE, NARROW_TOLERANCE = 1e-4, 2e-2
#: least and greatest float inputs
SCALES = {"unit": (-1.0, 1.0), "wide": (0.0, 255.0)}
#: tried in this order: how many different integers an input can be given
DISTINCT = (100, 16, 2)
#: of open axes beyond the batch, where no example says otherwise
LENGTH = 8


def record(
    network: nn.Module, specs: Mapping[str, Any], example: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What `matches` needs, by name; nothing where the network cannot be run on such inputs.

    `specs`: "inputs", and where known "example" and "call", as in `model.json`.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if network.training or any(tensor.device.type != "cpu" for tensor in tensors):
        network = copy.deepcopy(network).cpu().eval()
    called = Positional(network, specs.get("call", ()), specs.get("kept"))
    try:
        integers = _integers(called, specs, example or {})
        collected = {f"integers/{name}": tensor for name, tensor in integers.items()}
        for scale in SCALES:
            for name, tensor in _outputs(called, inputs(specs, scale, integers)).items():
                collected[f"{scale}/{name}"] = _spread(tensor)
                collected[f"shape/{name}"] = torch.tensor(tensor.shape, dtype=torch.int64)
    except Exception as error:  # whatever a network raises on inputs that are not its own
        log.debug("what the network computes is not kept: %s", error)
        return {}
    return collected


def parameters_differ(old: Mapping[str, Sequence[Any]], new: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Name → what is different about it, of two sets of parameters: name → [dtype, shape]."""
    collected = {}
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            collected[name] = f"it has no parameter {name} any more"
        elif name not in old:
            collected[name] = f"parameter {name} is new"
        elif list(new[name][1]) != list(old[name][1]):
            collected[name] = f"parameter {name} is {_shape(new[name][1])}, was {_shape(old[name][1])}"
        elif new[name][0] != old[name][0]:
            collected[name] = f"parameter {name} is {new[name][0]}, was {old[name][0]}"
    return collected


def outputs_differ(network: nn.Module, specs: Mapping[str, Any], kept: Mapping[str, Tensor]) -> str:
    """What is different about the outputs, "" where they are the same. `network`: called with tensors by position."""
    integers = {name.removeprefix("integers/"): t for name, t in kept.items() if name.startswith("integers/")}
    worst, differs = math.inf, False
    for scale in SCALES:
        old = {name.partition("/")[2]: t for name, t in kept.items() if name.startswith(f"{scale}/")}
        try:
            new = _outputs(network, inputs(specs, scale, integers))
        except Exception as error:  # the network's own
            said = next(iter(str(error).strip().splitlines()), "")
            return f"it cannot be run on its example: {type(error).__name__}: {said}"
        if new.keys() != old.keys():
            return f"its outputs are {', '.join(new)}, were {', '.join(old)}"
        for name, tensor in new.items():
            shape = kept[f"shape/{name}"].tolist()
            if list(tensor.shape) != shape:
                return f"its output {name!r} is {_shape(tensor.shape)}, was {_shape(shape)}"
            differs |= not _same(_spread(tensor), old[name])
            worst = min(worst, _sqnr(old[name], _spread(tensor)))
    return f"its outputs on the example differ: {worst:.1f} dB" if differs else ""


def inputs(specs: Mapping[str, Any], scale: str, integers: Mapping[str, Tensor]) -> list[Tensor]:
    """One tensor for each input; floats depend on nothing but their place in it."""
    collected = []
    for number, spec in enumerate(specs["inputs"]):
        dtype, shape = getattr(torch, spec["dtype"]), shape_of(spec, specs)
        if spec["name"] in integers:
            collected.append(integers[spec["name"]])
        elif dtype == torch.bool:
            collected.append(torch.ones(shape, dtype=dtype))
        else:
            low, high = SCALES[scale]
            values = low + (high - low) * _noise(math.prod(shape), number)
            collected.append(torch.from_numpy(values.reshape(shape)).to(dtype))
    return collected


def shape_of(spec: Mapping[str, Any], specs: Mapping[str, Any]) -> list[int]:
    example = specs.get("example", {}).get(spec["name"])
    lengths = example or [LENGTH if axis else 2 for axis in range(len(spec["shape"]))]
    return [size or length for size, length in zip(spec["shape"], lengths, strict=True)]


def _integers(network: nn.Module, specs: Mapping[str, Any], example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values for the integer inputs: the example's, else as many different ones as the network can be run on."""
    collected: dict[str, Tensor] = {}
    varied = {}
    for spec in specs["inputs"]:
        dtype = getattr(torch, spec["dtype"])
        if dtype.is_floating_point or dtype == torch.bool:
            continue
        if spec["name"] in example:
            collected[spec["name"]] = example[spec["name"]].contiguous().clone()
        else:
            collected[spec["name"]] = torch.zeros(shape_of(spec, specs), dtype=dtype)
            varied[spec["name"]] = collected[spec["name"]]
    for name, zeros in varied.items():
        for count in DISTINCT:
            values = torch.arange(zeros.numel()) % count
            tried = {**collected, name: values.reshape(zeros.shape).to(zeros.dtype)}
            try:
                _outputs(network, inputs(specs, "unit", tried))
            except (IndexError, RuntimeError):  # its table has no such row
                continue
            collected = tried
            break
    return collected


def _noise(count: int, seed: int) -> NDArray[np.float32]:
    """Numbers in [0, 1) from each one's place (the mixing function of splitmix64), alike in every library's version."""
    with np.errstate(over="ignore"):
        mixed = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed >> np.uint64(40)).astype(np.float64) / 2.0**24).astype(np.float32)


def _outputs(network: nn.Module, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        return (
            network.outputs_by_name(*tensors) if isinstance(network, Positional) else named_outputs(network(*tensors))
        )


def _spread(tensor: Tensor) -> Tensor:
    """Some of the values, as float32 where they are of a type that is narrower or complex."""
    flat = tensor.detach().reshape(-1)
    if len(flat) > KEPT:
        flat = flat[torch.arange(KEPT) * (len(flat) - 1) // (KEPT - 1)]
    return flat.clone().contiguous()


def _same(new: Tensor, old: Tensor) -> bool:
    if new.dtype != old.dtype:
        return False
    if not old.is_floating_point():
        return torch.equal(new, old)
    tolerance = TOLERANCE if old.dtype in (torch.float32, torch.float64) else NARROW_TOLERANCE
    finite = old.double()[torch.isfinite(old)]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return torch.allclose(new.double(), old.double(), rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def _sqnr(old: Tensor, new: Tensor) -> float:
    """Signal to difference, in dB: inf where there is none."""
    a, b = (torch.nan_to_num(tensor.double()) for tensor in (old, new))
    noise = float(((a - b) ** 2).sum())
    return 10 * math.log10(max(float((a**2).sum()), 1e-30) / noise) if noise else math.inf


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def write(folder: Path, kept: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    if kept:
        save_file(dict(kept), folder / FILE)
