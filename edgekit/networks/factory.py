"""Calls the user's factory `net.py:make` and checks its result; its errors become InputErrors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from edgekit.core import registry
from edgekit.core.errors import InputError
from edgekit.core.user_code import run_user_code

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

EXPECTED = "return (module, example_inputs), or (module, example_inputs, dynamic_axes)"


class FactoryResult(NamedTuple):
    """The result of a factory. `example`: a tensor, several, or a dict of tensors by name."""

    network: nn.Module
    example: Any
    axes: Mapping[str, Mapping[int, str]]


def make(reference: str, shape: Sequence[int] = ()) -> FactoryResult:
    """Call the factory that `reference` names. `shape`: of the example for a module that comes without one.

    Raises InputError if it raises, or returns something else.
    """
    import torch
    from torch import nn

    from edgekit.networks import torchvision_detectors

    factory = registry.load("models", reference)
    if not callable(factory) or isinstance(factory, nn.Module):
        what = f"{reference} is a {type(factory).__name__}"
        raise InputError(what, "it must be a function without arguments", EXPECTED)
    if missing := required_arguments(factory):
        what = f"{reference} needs arguments: {', '.join(missing)}"
        raise InputError(what, "it is called without arguments", "write a function around it: def make(): …")
    result = run_user_code(reference, f"{reference} failed", factory)
    if isinstance(result, nn.Module):
        if not shape:
            next = f"give the shape of its input: --shape 1x3x224x224; or {EXPECTED}"
            raise InputError(f"{reference} returns a module without example inputs", "its inputs are unknown", next)
        result = result, torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    if not isinstance(result, tuple) or len(result) not in (2, 3) or not isinstance(result[0], nn.Module):
        parts = f" of {', '.join(type(part).__name__ for part in result)}" if isinstance(result, tuple) else ""
        raise InputError(
            f"{reference} returns a {type(result).__name__}{parts}", "the first part must be a module", EXPECTED
        )
    _check_traceable(reference, result[0])
    axes = result[2] if len(result) == 3 else {}
    if not isinstance(axes, Mapping) or not all(isinstance(lengths, Mapping) for lengths in axes.values()):
        what = f"{reference} returns invalid dynamic_axes"
        raise InputError(what, f"{axes!r}"[:100], 'for example {"input_ids": {1: "length"}}')
    network, example = result[0], result[1]
    if torchvision_detectors.is_detector(network):
        network, example = torchvision_detectors.as_tensors(network), torchvision_detectors.stacked(example)
    return FactoryResult(network, example, axes)


def _check_traceable(reference: str, network: nn.Module) -> None:
    """Raises InputError for TorchScript, which torch.export cannot trace."""
    import torch

    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"{reference} returns a TorchScript module" + (f", in its part {name!r}" if name else "")
            why = "torch.jit.trace, script and load return compiled code, which torch.export cannot trace"
            raise InputError(what, why, "return the Python module it was made from, with its state_dict()")


def required_arguments(factory: Callable[..., Any]) -> list[str]:
    """The names of its arguments without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # functions written in C may have no signature
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
