"""The user's own code: `net.py:make` is called, and what it gives or raises is put in edgekit's words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from edgekit.core import registry
from edgekit.core.errors import InputError
from edgekit.core.user_code import run_user_code

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

WANTED = "return (module, example_inputs), or (module, example_inputs, dynamic_axes)"


class FactoryResult(NamedTuple):
    """What a factory returns. `example`: a tensor, several, or a dict of them by name."""

    network: nn.Module
    example: Any
    axes: Mapping[str, Mapping[int, str]]


def make(reference: str) -> FactoryResult:
    """Call the factory that `reference` names. Raises InputError where it raises, or returns something else."""
    from torch import nn

    factory = registry.load("models", reference)
    if not callable(factory) or isinstance(factory, nn.Module):
        what = f"{reference} is a {type(factory).__name__}"
        raise InputError(what, "a function is wanted, that takes no arguments", WANTED)
    if needed := required(factory):
        what = f"{reference} needs arguments: {', '.join(needed)}"
        raise InputError(what, "it is called without any", "write a function around it: def make(): …")
    made = run_user_code(reference, f"{reference} failed", factory)
    if isinstance(made, nn.Module):
        raise InputError(f"{reference} gives a module without example inputs", "its inputs are not known", WANTED)
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[0], nn.Module):
        parts = f" of {', '.join(type(part).__name__ for part in made)}" if isinstance(made, tuple) else ""
        raise InputError(f"{reference} gives a {type(made).__name__}{parts}", "a module was expected first", WANTED)
    axes = made[2] if len(made) == 3 else {}
    if not isinstance(axes, Mapping) or not all(isinstance(found, Mapping) for found in axes.values()):
        what = f"{reference} gives dynamic_axes of another form"
        raise InputError(what, f"{axes!r}"[:100], 'for example {"input_ids": {1: "length"}}')
    return FactoryResult(made[0], made[1], axes)


def required(factory: Callable[..., Any]) -> list[str]:
    """The names of the arguments it cannot do without."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # what is written in C does not tell
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
