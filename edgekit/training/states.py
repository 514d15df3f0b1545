"""A training's whole state, out to a checkpoint and back, so that going on makes the same weights."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.training import checkpoints, session
from edgekit.training.checkpoints import CheckpointManager
from edgekit.training.settings import Settings, plain

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger("edgekit")


@dataclass
class TrainingPosition:
    """How far it has got: epochs done, batches done and loss summed in the one that is going on."""

    epoch: int = 0
    batch: int = 0
    total: float = 0.0
    least: float = math.inf
    best_epoch: int = 0
    since: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training(Protocol):
    """What of a training goes into a checkpoint and comes back out of it."""

    now: TrainingPosition
    network: nn.Module
    settings: Settings
    group: Any
    device: torch.device
    extra: tuple[nn.Parameter, ...]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: Any
    best: dict[str, Tensor]
    order: torch.Generator
    chance: torch.Generator
    began: Tensor


def keeper(training: Training, scratch: Path | None, sets: list[str]) -> CheckpointManager:
    """Where this training's checkpoints are; only the first process writes any."""
    first = training.group.rank == 0 and scratch is not None
    return CheckpointManager(
        scratch if first else None, fingerprint(training, sets) if first else "", session.current().checkpoint_seconds
    )


def resume(training: Training, keeper: CheckpointManager) -> None:
    """Go on where a checkpoint is, unless the session wants to begin anew."""
    wanted = session.current().resume
    if not wanted:
        keeper.clear()
    state = training.group.state(keeper.load() if wanted else None)
    if state is not None:
        _restore(training, *state)
        done = training.now
        log.info("resumed after epoch %d, batch %d", done.epoch, done.batch)


def save(training: Training, keeper: CheckpointManager) -> None:
    import torch

    chance = training.group.gather(training.chance.get_state())
    rng = training.group.gather(torch.get_rng_state())
    tensors = {"order.now": training.order.get_state(), "order.began": training.began}
    tensors |= {f"chance.{rank}": state for rank, state in enumerate(chance)}
    tensors |= {f"rng.{rank}": state for rank, state in enumerate(rng)}
    if training.device.type == "cuda":
        cuda = training.group.gather(torch.cuda.get_rng_state(training.device))
        tensors |= {f"cuda.{rank}": state for rank, state in enumerate(cuda)}
    if training.group.rank:
        return
    tensors |= _named("network", training.network.state_dict()) | _named("best", training.best)
    tensors |= {f"extra.{i}": parameter for i, parameter in enumerate(training.extra)}
    if training.average is not None:
        tensors |= _named("average", training.average.state_dict())
    moments = training.optimizer.state_dict()
    plain: dict[str, Any] = {"now": dataclasses.asdict(training.now), "schedule": _json(training.schedule.state_dict())}
    plain |= {"groups": moments["param_groups"], "moments": {}}
    for index, values in moments["state"].items():
        for name, value in values.items():
            if hasattr(value, "shape"):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain["moments"].setdefault(str(index), {})[name] = value
    keeper.save(tensors, plain)


def generator(state: Tensor) -> torch.Generator:
    import torch

    made = torch.Generator()
    made.set_state(state)
    return made


def _restore(training: Training, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    import torch

    rank = training.group.rank
    training.now = type(training.now)(**plain["now"])
    training.network.load_state_dict(_below("network", tensors))
    training.best = {name: tensor.to(training.device) for name, tensor in _below("best", tensors).items()}
    if training.average is not None:
        training.average.load_state_dict(_below("average", tensors))
    with torch.no_grad():
        for index, parameter in enumerate(training.extra):
            parameter.copy_(tensors[f"extra.{index}"])
    _restore_optimizer(training, tensors, plain)
    training.schedule.load_state_dict({**training.schedule.state_dict(), **plain["schedule"]})
    training.order.set_state(tensors["order.now"])
    training.chance.set_state(tensors[f"chance.{rank}"])
    training.began = tensors["order.began"]
    torch.set_rng_state(tensors[f"rng.{rank}"])
    if training.device.type == "cuda":
        torch.cuda.set_rng_state(tensors[f"cuda.{rank}"], training.device)


def _restore_optimizer(training: Training, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Moments lie in memory as their parameters do: another layout would be summed in another way."""
    import torch

    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in plain["moments"].items()}
    for name, tensor in _below("optimizer", tensors).items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        if tensor.shape == like.shape and tensor.ndim:
            tensor = torch.empty_like(like, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    groups = [
        {name: tuple(value) if isinstance(value, list) and name != "params" else value for name, value in group.items()}
        for group in plain["groups"]
    ]
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _named(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _json(state: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler's plain values; functions are its own, and made anew."""
    return {name: value for name, value in state.items() if name != "lr_lambdas" and not callable(value)}


def fingerprint(training: Training, sets: list[str]) -> str:
    """What a checkpoint must have been written under to be taken."""
    import torch

    what = {"settings": plain(training.settings), "sets": sets, "processes": training.group.count}
    what |= {"device": training.device.type, "torch": torch.__version__}
    return checkpoints.fingerprint(training.network, what)
