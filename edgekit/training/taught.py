"""Training with a teacher beside the labels: the engine's loop, its loss replaced by that of `distillation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgekit.training import engine
from edgekit.training.distillation import Distillation, Lessons

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgekit.training.settings import Settings
    from edgekit.types import Context

#: samples that tell which layers of both networks are of one resolution
LOOKED_AT = 2


def fit(
    network: nn.Module,
    settings: Settings,
    ctx: Context,
    *,
    device: torch.device,
    teacher: nn.Module | None = None,
    how: Distillation | None = None,
    after_backward: Callable[[nn.Module], None] | None = None,
) -> list[dict[str, Any]]:
    """`engine.fit` over the context's train and val splits; with a teacher, `how` says what is learnt from it.

    Raises InputError where the teacher does not fit, Diverged.
    """
    assert ctx.task is not None
    shared: dict[str, Any] = {"device": device, "progress": ctx.progress, "scratch": ctx.scratch}
    shared["after_backward"] = after_backward
    train, val = ctx.sets["train"], ctx.sets["val"]
    if teacher is None or how is None:
        return engine.fit(network, settings, ctx.task, train, val, **shared)
    lessons = Lessons(how, teacher.to(device), engine.call, bool(ctx.task.classes)).to(device)
    network.to(device)
    inputs = {name: engine.as_input(array[:LOOKED_AT]).to(device) for name, array in val.inputs.items()}
    with lessons.watching(network, inputs):
        extra = {"extra_loss": lessons.loss, "parameters": list(lessons.parameters())}
        return engine.fit(network, settings, ctx.task, train, val, **shared, **extra)
