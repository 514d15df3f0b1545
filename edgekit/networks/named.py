"""A network given by name or reference and plain arguments, with its weights in a safetensors file."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import identity, registry, user_code
from edgekit.core.errors import EdgekitError, InputError, Missing
from edgekit.core.mute import muted
from edgekit.core.user_code import run_user_code
from edgekit.networks.weights import load_weights, read_weights, tensors_of, unique

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("edgekit")

AGAIN = "restore that version, or make it again"


def build(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The untrained network (the first part of a factory's result). Raises InputError for an unknown name.

    Errors of the user's own code become InputErrors that name the line.
    """
    from torch import nn

    from edgekit.networks.torchvision_detectors import as_tensors

    builder = registry.load("models", model)
    if user_code.is_reference(model):
        result = run_user_code(model, f"{model} failed", lambda: builder(**arguments))
    else:
        try:
            with muted(log, loggers=("torchao",)):  # transformers imports it, and it warns of what it lacks
                result = builder(**arguments)
        except ImportError as error:
            raise Missing.install(f"the network {model}", error.name or "transformers", "hf") from error
    network = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(network, nn.Module):
        raise InputError(f"{model} returns a {type(network).__name__}", "it must be a torch.nn.Module", "fix its code")
    return as_tensors(network)


def save(
    network: nn.Module,
    model: str,
    arguments: Mapping[str, Any],
    specs: Mapping[str, Any],
    out: Path,
    example: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the network's files. `specs` holds "inputs" and "outputs", lists of TensorSpec as JSON, and what else is
    known; `example` the inputs that the network came with.

    Tensors that several names share are written once. With them goes what tells later whether changed code is still
    this network: the hash of its code, and some of its outputs.
    """
    from safetensors.torch import save_file

    from edgekit.networks import sameness

    save_file(unique(network), out / "model.safetensors")
    sameness.write(out, sameness.record(network, specs, example))
    code = {"code_sha256": identity.of_member("models", model)}
    reference = {"loader": "named", "model": model, "arguments": dict(arguments), **code}
    (out / "model.json").write_text(json.dumps({**reference, **specs, "tensors": tensors_of(network)}, indent=1) + "\n")


def load(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The trained network in eval mode, called as `model.json` says.

    Where its code has changed since, it must still be the same network: have the same parameters, and give the same
    outputs on its example. Raises InputError, naming what differs, where it is another one.
    """
    model = reference["model"]
    changed = identity.of_member("models", model) != reference.get("code_sha256")
    network = _of_changed_code(folder, reference) if changed else _built(reference)
    load_weights(network, folder / "model.safetensors")
    network.eval()
    called = network
    if "call" in reference:
        from edgekit.networks.interface import Positional

        called = Positional(network, reference["call"], reference.get("kept")).eval()
    if changed:
        _check_outputs(called, folder, reference)
        log.info("the code of %s has changed since %s was made, and computes the same", model, folder)
    return called


def _built(reference: Mapping[str, Any]) -> nn.Module:
    network = build(reference["model"], reference["arguments"])
    if reference.get("float32"):
        network = network.float()
    if "widths" in reference:
        from edgekit.networks.widths import apply

        apply(network, reference["widths"], reference["tensors"])
    return network


def _of_changed_code(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The network without its weights, which fit. Raises InputError where they do not."""
    from edgekit.networks.sameness import parameters_differ

    try:
        network = _built(reference)
    except (EdgekitError, TypeError) as error:  # it takes other arguments, or cannot be made as narrow
        why = error.why if isinstance(error, EdgekitError) and error.why else str(error)
        raise _other(folder, reference, why, AGAIN) from error
    own = tensors_of(network)
    different = parameters_differ(reference["tensors"], own)
    if not different:
        return network
    first, *others = different.values()
    more = f", and {len(others)} more differ" if others else ""
    raise _other(folder, reference, first + more, _next(folder, reference, own, different))


def _check_outputs(network: nn.Module, folder: Path, reference: Mapping[str, Any]) -> None:
    """Raises InputError where the network computes something else than it did, or nothing tells what it did."""
    from edgekit.networks import sameness

    if not (folder / sameness.FILE).is_file():
        why = "its code has changed since, and no outputs were kept to compare with"
        raise _other(folder, reference, why, _next(folder, reference))
    if why := sameness.outputs_differ(network, reference, read_weights(folder / sameness.FILE)):
        raise _other(folder, reference, why, _next(folder, reference))


def _other(folder: Path, reference: Mapping[str, Any], why: str, next: str) -> InputError:
    what = f"{folder} holds the weights of another version of the network {reference['model']!r}"
    return InputError(what, why, next)


def _next(
    folder: Path, reference: Mapping[str, Any], own: Collection[str] = (), different: Collection[str] = ()
) -> str:
    """What to do: training may start from the weights, but for the parts that have other parameters."""
    parts = dict.fromkeys(name.rpartition(".")[0] or name for name in different)
    there = all(any(name == part or name.startswith(f"{part}.") for name in own) for part in parts)
    if "widths" in reference or not there:
        return AGAIN
    fresh = "".join(f" --fresh {part}" for part in parts)
    command = f"edgekit train --model {reference['model']} --init {folder / 'model.safetensors'}{fresh}"
    return f"{AGAIN}; or train the changed network from these weights: {command}"
