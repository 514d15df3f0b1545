"""Knowledge distillation: training a network on a teacher's outputs and features, and on the labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.core.errors import InputError
from edgekit.networks.outputs import named_outputs
from edgekit.training import engine
from edgekit.training.calls import as_input, call
from edgekit.training.distillation_settings import DistillationSettings

if TYPE_CHECKING:
    from edgekit.core.step import Context
    from edgekit.training.settings import Settings

#: samples used to find the layers of equal resolution in both networks
PROBE_SAMPLES = 2


def fit(
    network: nn.Module,
    settings: Settings,
    ctx: Context,
    *,
    device: torch.device,
    teacher: nn.Module | None = None,
    options: DistillationSettings | None = None,
    after_backward: Callable[[nn.Module], None] | None = None,
    fixed: Collection[str] = (),
) -> list[dict[str, Any]]:
    """`engine.fit` over the context's train and val splits; with a teacher and `options`, by distillation.

    Raises InputError if the teacher does not fit, Diverged.
    """
    assert ctx.task is not None
    shared: dict[str, Any] = {"device": device, "progress": ctx.progress, "scratch": ctx.scratch}
    shared |= {"after_backward": after_backward, "fixed": fixed}
    train, val = ctx.sets["train"], ctx.sets["val"]
    if teacher is None or options is None:
        return engine.fit(network, settings, ctx.task, train, val, **shared)
    distillation_loss = DistillationLoss(options, teacher.to(device), bool(ctx.task.classes)).to(device)
    network.to(device)
    inputs = {name: as_input(array[:PROBE_SAMPLES]).to(device) for name, array in val.inputs.items()}
    with distillation_loss.recording_features(network, inputs):
        extra: dict[str, Any] = {
            "extra_loss": distillation_loss.loss,
            "parameters": list(distillation_loss.parameters()),
        }
        return engine.fit(network, settings, ctx.task, train, val, **shared, **extra)


class DistillationLoss(nn.Module):
    """The distillation loss. Its parameters project the student's features to the teacher's, and are trained too."""

    def __init__(self, options: DistillationSettings, teacher: nn.Module, classes: bool) -> None:
        """`classes`: whether the outputs are logits, one per class."""
        super().__init__()
        self._options, self._classes = options, classes
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list, so that it is not a submodule
        self._pairs: list[tuple[nn.Module, nn.Module]] = []
        self._features: dict[nn.Module, Tensor] = {}
        self.projections = nn.ModuleList()

    @contextmanager
    def recording_features(self, student: nn.Module, inputs: Any) -> Iterator[None]:
        """Record the outputs of paired layers inside this context; `inputs` are samples to find the pairs with.

        Raises InputError if no layers have the same resolution, or if the outputs differ in shape.
        """
        self._check(student, inputs)
        handles = []
        if set(self._options.distil_methods) & {"features", "attention"}:
            self._pair_layers(student, inputs)
            for layers in self._pairs:
                handles += [layer.register_forward_hook(self._record) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._features.clear()

    def loss(self, inputs: Any, outputs: Any, labels: Tensor, base: Tensor) -> Tensor:
        """The loss that replaces `base`, the label loss, after a forward pass of the student."""
        with torch.no_grad():
            teacher_outputs = list(named_outputs(call(self._teacher[0], inputs)).values())
        total = base
        if "logits" in self._options.distil_methods:
            student_outputs = list(named_outputs(outputs).values())
            divergence = distance(student_outputs, teacher_outputs, self._classes, self._options.temperature)
            total = (1 - self._options.alpha) * base + self._options.alpha * divergence
        for index, (student_layer, teacher_layer) in enumerate(self._pairs):
            student, teacher = self._features[student_layer], self._features[teacher_layer].detach()
            if "features" in self._options.distil_methods:
                projected = self.projections[index](student)
                total = total + self._options.weight * F.mse_loss(projected, teacher) / teacher.var().clamp(min=1e-12)
            if "attention" in self._options.distil_methods:
                difference = (attention_map(student) - attention_map(teacher)).square().sum(1).mean()
                total = total + self._options.weight * difference
        return total

    def _record(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self._features[layer] = output

    def _check(self, student: nn.Module, inputs: Any) -> None:
        with _eval_mode(student), torch.no_grad():
            student_outputs, teacher_outputs = (
                named_outputs(call(network, inputs)) for network in (student, self._teacher[0])
            )
        for (name, a), b in zip(student_outputs.items(), teacher_outputs.values(), strict=False):
            if a.shape != b.shape:
                shapes = f"{name} is {list(a.shape)}, the teacher's {list(b.shape)}"
                raise InputError("the teacher does not fit the network", shapes, "use a teacher of the same task")

    def _pair_layers(self, student: nn.Module, inputs: Any) -> None:
        """Pair the last layers of each shared resolution; for the method features, add a projection for each pair."""
        student_layers, teacher_layers = (_by_resolution(net, inputs) for net in (student, self._teacher[0]))
        shared = [resolution for resolution in student_layers if resolution in teacher_layers]
        if not shared:
            why = "the networks have no layers whose outputs have the same resolution"
            raise InputError("this teacher's features cannot be used", why, "use the method logits")
        for resolution in shared:
            (layer, a), (other, b) = student_layers[resolution], teacher_layers[resolution]
            self._pairs.append((layer, other))
            if "features" in self._options.distil_methods:
                project = nn.Conv2d(a.shape[1], b.shape[1], 1) if a.ndim == 4 else nn.Linear(a.shape[-1], b.shape[-1])
                self.projections.append(project.to(a.device))


def distance(
    outputs: Sequence[Tensor], teacher_outputs: Sequence[Tensor], classes: bool, temperature: float = 1.0
) -> Tensor:
    """How far outputs are from the teacher's: KL divergence of class probabilities, else error over variance.

    Both networks' logits are divided by `temperature`, and the divergence is multiplied by its square, so that
    gradients keep their magnitude (section 2 of https://arxiv.org/abs/1503.02531).
    """
    total = torch.zeros((), device=teacher_outputs[0].device) if teacher_outputs else torch.zeros(())
    for output, target in zip(outputs, teacher_outputs, strict=True):
        if not target.is_floating_point():
            continue
        if classes and target.ndim == 2 and target.shape[1] > 1:
            a, b = (output / temperature).log_softmax(1), (target / temperature).log_softmax(1)
            total = total + temperature**2 * F.kl_div(a, b, reduction="batchmean", log_target=True)
        else:
            total = total + F.mse_loss(output, target) / target.var(correction=0).clamp(min=1e-12)
    return total


def attention_map(features: Tensor) -> Tensor:
    """(N, C, H, W) or (N, T, C) → (N, H·W) or (N, T): mean squared activation over channels, of L2 norm 1."""
    channel = 1 if features.ndim == 4 else 2
    return F.normalize(features.square().mean(channel).flatten(1), dim=1)


def _by_resolution(network: nn.Module, inputs: Any) -> dict[tuple[int, ...], tuple[nn.Module, Tensor]]:
    """Height and width (or length) → the last layer with such an output, and the output; only layers that run once."""
    runs: dict[nn.Module, list[Tensor]] = {}

    def record(layer: nn.Module, layer_inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (3, 4) and output.is_floating_point():
            runs.setdefault(layer, []).append(output)

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(record) for leaf in leaves]
    try:
        with _eval_mode(network), torch.no_grad():
            call(network, inputs)
    finally:
        for handle in handles:
            handle.remove()
    by_resolution: dict[tuple[int, ...], tuple[nn.Module, Tensor]] = {}
    for layer, outputs in runs.items():
        output = outputs[0]
        resolution = tuple(output.shape[2:]) if output.ndim == 4 else (output.shape[1],)
        if len(outputs) == 1 and math.prod(resolution) > 1:
            by_resolution[resolution] = layer, output
    return by_resolution


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
