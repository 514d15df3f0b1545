"""Optimizers and learning rates: which parameter learns how fast, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, suggest
from edgekit.training.settings import Settings, factor_of

if TYPE_CHECKING:
    import torch
    from torch import nn

#: "step" lowers the rate to a tenth after these shares of the training
STEPS = (0.5, 0.75)


def optimizer(network: nn.Module, extra: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Over every parameter of the network and the extra ones (a teacher's adapters), in groups of one rate each."""
    import torch

    groups = _groups(network, extra, settings)
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(
            groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0, weight_decay=settings.weight_decay
        )
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    fused = True if next(network.parameters()).is_cuda else None
    return kind(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)


def schedule(made: torch.optim.Optimizer, settings: Settings, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The rate over `steps` steps of one epoch, times the epochs."""
    from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

    total = steps * settings.epochs
    if settings.schedule == "one-cycle":
        highest = [group["lr"] for group in made.param_groups]
        cycled = settings.optimizer != "sgd" or settings.momentum > 0
        return OneCycleLR(made, highest, total_steps=total, cycle_momentum=cycled)
    warm = round(settings.warmup * steps)
    return LambdaLR(made, lambda step: share(settings.schedule, step, warm, total))


def share(kind: str, step: int, warm: int, total: int) -> float:
    """What of the highest rate step number `step` of `total` learns with."""
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, total - warm)
    if kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return 0.1 ** sum(done >= part for part in STEPS) if kind == "step" else 1.0


def under(name: str, prefix: str) -> bool:
    """Is the parameter or module called `name` that part of the network, or in it?"""
    return name == prefix or name.startswith(f"{prefix}.")


def check_prefixes(network: nn.Module, prefixes: Iterable[str], option: str) -> None:
    """Raises InputError for a prefix that no parameter has."""
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(under(name, prefix) for name in names):
            known = tuple(dict.fromkeys(name.rpartition(".")[0].split(".")[0] or name for name in names))
            what = f"{option} names {prefix!r}, which is no part of the network"
            raise InputError(what, f"its parts: {', '.join(known)}", suggest(prefix, known))


def stages(network: nn.Module) -> Iterator[str]:
    """The names of the network's stages from input to output: its parts, and of a part that is a sequence its own."""
    from torch import nn

    for name, child in network.named_children():
        if not any(True for _ in child.parameters()):
            continue
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) > 1:
            yield from (f"{name}.{i}" for i, part in child.named_children() if any(True for _ in part.parameters()))
        else:
            yield name


def _groups(network: nn.Module, extra: Iterable[nn.Parameter], settings: Settings) -> list[dict[str, Any]]:
    """Parameters that share rate and weight decay, in the network's order; one group where all do."""
    factors = dict(map(factor_of, settings.lr_factors))
    check_prefixes(network, factors, "lr_factors")
    parts = list(stages(network))
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        depth = next((len(parts) - 1 - i for i, part in enumerate(parts) if under(name, part)), 0)
        longest = max((prefix for prefix in factors if under(name, prefix)), key=len, default="")
        rate = settings.lr * settings.lr_decay**depth * factors.get(longest, 1.0)
        spared = settings.decay == "weights" and parameter.ndim < 2
        found.setdefault((rate, 0.0 if spared else settings.weight_decay), []).append(parameter)
    if more := list(extra):
        found.setdefault((settings.lr, settings.weight_decay), []).extend(more)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in found.items()]
