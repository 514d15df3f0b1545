"""A teacher beside the labels: a network learns from what a larger one answers, and from what it sees on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.core.errors import InputError
from edgekit.networks.interface import named
from edgekit.training import engine
from edgekit.training.calls import as_input, call
from edgekit.training.distillation import Distillation

if TYPE_CHECKING:
    from edgekit.core.step import Context
    from edgekit.training.settings import Settings

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
    lessons = DistillationLoss(how, teacher.to(device), bool(ctx.task.classes)).to(device)
    network.to(device)
    inputs = {name: as_input(array[:LOOKED_AT]).to(device) for name, array in val.inputs.items()}
    with lessons.watching(network, inputs):
        extra: dict[str, Any] = {"extra_loss": lessons.loss, "parameters": list(lessons.parameters())}
        return engine.fit(network, settings, ctx.task, train, val, **shared, **extra)


class DistillationLoss(nn.Module):
    """The loss with a teacher. Its own parameters map the student's features to the teacher's; they learn along."""

    def __init__(self, how: Distillation, teacher: nn.Module, classes: bool) -> None:
        """`classes`: the outputs are logits, one per class."""
        super().__init__()
        self._how, self._classes = how, classes
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list: no part of what is trained
        self._pairs: list[tuple[nn.Module, nn.Module]] = []
        self._seen: dict[nn.Module, Tensor] = {}
        self.projections = nn.ModuleList()

    @contextmanager
    def watching(self, student: nn.Module, inputs: Any) -> Iterator[None]:
        """Note what the paired layers give, while this lasts; `inputs` are some to find the pairs with.

        Raises InputError where both networks have no layers of one resolution, or answers of other shapes.
        """
        self._check(student, inputs)
        handles = []
        if set(self._how.chosen) & {"features", "attention"}:
            self._pair(student, inputs)
            for layers in self._pairs:
                handles += [layer.register_forward_hook(self._note) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._seen.clear()

    def loss(self, inputs: Any, outputs: Any, labels: Tensor, base: Tensor) -> Tensor:
        """What is minimised in place of `base`, the loss by labels, after a forward pass of the student."""
        with torch.no_grad():
            wanted = list(named(call(self._teacher[0], inputs)).values())
        total = base
        if "logits" in self._how.chosen:
            given = list(named(outputs).values())
            apart = distance(given, wanted, self._classes, self._how.temperature)
            total = (1 - self._how.alpha) * base + self._how.alpha * apart
        for index, (mine, theirs) in enumerate(self._pairs):
            student, teacher = self._seen[mine], self._seen[theirs].detach()
            if "features" in self._how.chosen:
                mapped = self.projections[index](student)
                total = total + self._how.weight * F.mse_loss(mapped, teacher) / teacher.var().clamp(min=1e-12)
            if "attention" in self._how.chosen:
                apart = (attention_map(student) - attention_map(teacher)).square().sum(1).mean()
                total = total + self._how.weight * apart
        return total

    def _note(self, layer: nn.Module, given: Any, output: Any) -> None:
        self._seen[layer] = output

    def _check(self, student: nn.Module, inputs: Any) -> None:
        with _evaluating(student), torch.no_grad():
            mine, theirs = (named(call(network, inputs)) for network in (student, self._teacher[0]))
        for (name, a), b in zip(mine.items(), theirs.values(), strict=False):
            if a.shape != b.shape:
                shapes = f"{name} is {list(a.shape)}, the teacher's {list(b.shape)}"
                raise InputError("the teacher does not fit the network", shapes, "take a teacher of the same task")

    def _pair(self, student: nn.Module, inputs: Any) -> None:
        """The last layers of each resolution that both have; and a projection for each, where it is wanted."""
        mine, theirs = (_by_resolution(net, inputs) for net in (student, self._teacher[0]))
        common = [resolution for resolution in mine if resolution in theirs]
        if not common:
            why = "they have no layers whose outputs are of one resolution"
            raise InputError("this teacher's features cannot be learnt", why, "take logits")
        for resolution in common:
            (layer, a), (other, b) = mine[resolution], theirs[resolution]
            self._pairs.append((layer, other))
            if "features" in self._how.chosen:
                project = nn.Conv2d(a.shape[1], b.shape[1], 1) if a.ndim == 4 else nn.Linear(a.shape[-1], b.shape[-1])
                self.projections.append(project.to(a.device))


def distance(outputs: Sequence[Tensor], wanted: Sequence[Tensor], classes: bool, temperature: float = 1.0) -> Tensor:
    """How far the answers are from the teacher's: the divergence of what classes are likely, else the error's share.

    Logits of both are divided by `temperature` first, and the divergence multiplied by its square, so that gradients
    keep their size (section 2 of https://arxiv.org/abs/1503.02531).
    """
    total = torch.zeros((), device=wanted[0].device) if wanted else torch.zeros(())
    for given, aim in zip(outputs, wanted, strict=True):
        if not aim.is_floating_point():
            continue
        if classes and aim.ndim == 2 and aim.shape[1] > 1:
            a, b = (given / temperature).log_softmax(1), (aim / temperature).log_softmax(1)
            total = total + temperature**2 * F.kl_div(a, b, reduction="batchmean", log_target=True)
        else:
            total = total + F.mse_loss(given, aim) / aim.var(correction=0).clamp(min=1e-12)
    return total


def attention_map(features: Tensor) -> Tensor:
    """(N, C, H, W) or (N, T, C) → (N, H·W) or (N, T): where activations are large, of length one."""
    channel = 1 if features.ndim == 4 else 2
    return F.normalize(features.square().mean(channel).flatten(1), dim=1)


def _by_resolution(network: nn.Module, inputs: Any) -> dict[tuple[int, ...], tuple[nn.Module, Tensor]]:
    """Height and width (or length) → the last layer with such outputs, and its output; only layers that run once."""
    runs: dict[nn.Module, list[Tensor]] = {}

    def note(layer: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (3, 4) and output.is_floating_point():
            runs.setdefault(layer, []).append(output)

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        with _evaluating(network), torch.no_grad():
            call(network, inputs)
    finally:
        for handle in handles:
            handle.remove()
    found: dict[tuple[int, ...], tuple[nn.Module, Tensor]] = {}
    for layer, outputs in runs.items():
        output = outputs[0]
        resolution = tuple(output.shape[2:]) if output.ndim == 4 else (output.shape[1],)
        if len(outputs) == 1 and math.prod(resolution) > 1:
            found[resolution] = layer, output
    return found


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
