"""Saves a training's whole state to a checkpoint and restores it, so that a resumed training gives the same weights."""

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
from edgekit.training.settings import Settings, as_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger("edgekit")


@dataclass
class TrainingPosition:
    """Progress: completed epochs, and completed batches and summed loss of the current epoch."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    best_objective: float = math.inf
    best_epoch: int = 0
    epochs_without_improvement: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training(Protocol):
    """The parts of a training that a checkpoint holds."""

    position: TrainingPosition
    network: nn.Module
    settings: Settings
    group: Any
    device: torch.device
    extra: tuple[nn.Parameter, ...]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: Any
    best: dict[str, Tensor]
    fixed: frozenset[str]
    order_rng: torch.Generator
    augment_rng: torch.Generator
    epoch_rng: Tensor


def open_manager(training: Training, scratch: Path | None, sets: list[str]) -> CheckpointManager:
    """The manager of this training's checkpoints; only the first process writes any."""
    first = training.group.rank == 0 and scratch is not None
    return CheckpointManager(
        scratch if first else None, fingerprint(training, sets) if first else "", session.current().checkpoint_seconds
    )


def resume(training: Training, manager: CheckpointManager) -> None:
    """Resume from the newest checkpoint, if any, unless the session starts over."""
    resuming = session.current().resume
    if not resuming:
        manager.clear()
    state = training.group.broadcast_state(manager.load() if resuming else None)
    if state is not None:
        _restore(training, *state)
        position = training.position
        log.info("resumed after epoch %d, batch %d", position.epoch, position.batch)
        if (say := session.current().say) is not None and training.group.rank == 0:
            within = f", in batch {position.batch + 1} of the next" if position.batch else ""
            say(f"  resumes   after epoch {position.epoch} of {training.settings.epochs}{within}")


def save(training: Training, manager: CheckpointManager) -> None:
    import torch

    augment_rng = training.group.gather(training.augment_rng.get_state())
    default_rng = training.group.gather(torch.get_rng_state())
    tensors = {"order_rng": training.order_rng.get_state(), "epoch_rng": training.epoch_rng}
    tensors |= {f"augment_rng.{rank}": state for rank, state in enumerate(augment_rng)}
    tensors |= {f"rng.{rank}": state for rank, state in enumerate(default_rng)}
    if training.device.type == "cuda":
        cuda = training.group.gather(torch.cuda.get_rng_state(training.device))
        tensors |= {f"cuda.{rank}": state for rank, state in enumerate(cuda)}
    if training.group.rank:
        return
    state = {name: t for name, t in training.network.state_dict().items() if name not in training.fixed}
    tensors |= _with_prefix("network", state) | _with_prefix("best", training.best)
    tensors |= {f"extra.{i}": parameter for i, parameter in enumerate(training.extra)}
    if training.average is not None:
        tensors |= _with_prefix("average", training.average.state_dict())
    optimizer = training.optimizer.state_dict()
    values: dict[str, Any] = {"position": dataclasses.asdict(training.position)}
    values |= {"schedule": _schedule_values(training.schedule.state_dict())}
    values |= {"groups": optimizer["param_groups"], "moments": {}}
    for index, moments in optimizer["state"].items():
        for name, value in moments.items():
            if hasattr(value, "shape"):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                values["moments"].setdefault(str(index), {})[name] = value
    manager.save(tensors, values)


def generator_from(state: Tensor) -> torch.Generator:
    import torch

    generator = torch.Generator()
    generator.set_state(state)
    return generator


def _restore(training: Training, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    import torch

    rank = training.group.rank
    training.position = type(training.position)(**values["position"])
    training.network.load_state_dict(_without_prefix("network", tensors), strict=not training.fixed)
    training.best = {name: tensor.to(training.device) for name, tensor in _without_prefix("best", tensors).items()}
    if training.average is not None:
        training.average.load_state_dict(_without_prefix("average", tensors))
    with torch.no_grad():
        for index, parameter in enumerate(training.extra):
            parameter.copy_(tensors[f"extra.{index}"])
    _restore_optimizer(training, tensors, values)
    training.schedule.load_state_dict({**training.schedule.state_dict(), **values["schedule"]})
    training.order_rng.set_state(tensors["order_rng"])
    training.augment_rng.set_state(tensors[f"augment_rng.{rank}"])
    training.epoch_rng = tensors["epoch_rng"]
    torch.set_rng_state(tensors[f"rng.{rank}"])
    if training.device.type == "cuda":
        torch.cuda.set_rng_state(tensors[f"cuda.{rank}"], training.device)


def _restore_optimizer(training: Training, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Each moment gets its parameter's memory layout: another layout would change the order of summation."""
    import torch

    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(moments) for index, moments in values["moments"].items()}
    for name, tensor in _without_prefix("optimizer", tensors).items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape and tensor.ndim:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    groups = [
        {name: tuple(value) if isinstance(value, list) and name != "params" else value for name, value in group.items()}
        for group in values["groups"]
    ]
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _with_prefix(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _schedule_values(state: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler's plain values, without its functions."""
    return {name: value for name, value in state.items() if name != "lr_lambdas" and not callable(value)}


def fingerprint(training: Training, sets: list[str]) -> str:
    """A hash of everything that must match for a checkpoint to be resumed from."""
    import torch

    recorded = {"settings": as_json(training.settings), "sets": sets, "processes": training.group.count}
    recorded |= {"device": training.device.type, "torch": torch.__version__}
    return checkpoints.fingerprint(training.network, recorded)
