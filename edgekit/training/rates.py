"""Optimizers, parameter groups and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, suggest
from edgekit.training.settings import Settings, parse_lr_factor

if TYPE_CHECKING:
    import torch
    from torch import nn

#: the "step" schedule divides the rate by ten after these fractions of the training
STEPS = (0.5, 0.75)


def build_optimizer(network: nn.Module, extra: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Over the network's parameters and the extra ones (feature projections), in groups of equal rate."""
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


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: Settings, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The rate over all epochs, `steps` optimizer steps each."""
    from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

    total = steps * settings.epochs
    if settings.schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        cycle_momentum = settings.optimizer != "sgd" or settings.momentum > 0
        return OneCycleLR(optimizer, highest, total_steps=total, cycle_momentum=cycle_momentum)
    warmup_steps = round(settings.warmup * steps)
    return LambdaLR(optimizer, lambda step: rate_factor(settings.schedule, step, warmup_steps, total))


def rate_factor(kind: str, step: int, warmup_steps: int, total: int) -> float:
    """The learning rate of step number `step` of `total`, as a fraction of the highest."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total - warmup_steps)
    if kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return 0.1 ** sum(done >= part for part in STEPS) if kind == "step" else 1.0


def is_within(name: str, prefix: str) -> bool:
    """Whether the parameter or module `name` is the part `prefix`, or inside it."""
    return name == prefix or name.startswith(f"{prefix}.")


def check_prefixes(network: nn.Module, prefixes: Iterable[str], option: str) -> None:
    """Raises InputError for a prefix that matches no parameter."""
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(is_within(name, prefix) for name in names):
            known = tuple(dict.fromkeys(name.rpartition(".")[0].split(".")[0] or name for name in names))
            what = f"{option} names {prefix!r}, which is not a part of the network"
            raise InputError(what, f"its parts: {', '.join(known)}", suggest(prefix, known))


def stages(network: nn.Module) -> Iterator[str]:
    """The network's stages from input to output: its children, and a sequence's own children in its place."""
    from torch import nn

    for name, child in network.named_children():
        if not any(True for _ in child.parameters()):
            continue
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) > 1:
            yield from (f"{name}.{i}" for i, part in child.named_children() if any(True for _ in part.parameters()))
        else:
            yield name


def _groups(network: nn.Module, extra: Iterable[nn.Parameter], settings: Settings) -> list[dict[str, Any]]:
    """Parameters grouped by rate and weight decay, in the network's order."""
    factors = dict(map(parse_lr_factor, settings.lr_factors))
    check_prefixes(network, factors, "lr_factors")
    parts = list(stages(network))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        depth = next((len(parts) - 1 - i for i, part in enumerate(parts) if is_within(name, part)), 0)
        longest = max((prefix for prefix in factors if is_within(name, prefix)), key=len, default="")
        rate = settings.lr * settings.lr_decay**depth * factors.get(longest, 1.0)
        spared = settings.decay == "weights" and parameter.ndim < 2
        groups.setdefault((rate, 0.0 if spared else settings.weight_decay), []).append(parameter)
    if more := list(extra):
        groups.setdefault((settings.lr, settings.weight_decay), []).extend(more)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
