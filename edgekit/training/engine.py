"""The training loop, used for a task's network, for fine-tuning after pruning, and for distillation."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import Diverged, InputError
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.task import Task
from edgekit.sets import take
from edgekit.training import checkpoint_state, losses, processes, rates, session, tensorboard, torch_errors
from edgekit.training.calls import call, to_float32
from edgekit.training.checkpoint_state import TrainingPosition
from edgekit.training.data import Samples
from edgekit.training.epoch_lines import EpochLines
from edgekit.training.evaluation import BATCH, evaluate
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger("edgekit")

#: on an accelerator the losses are read after so many batches, because reading waits for it
LOSS_INTERVAL = 16

#: (inputs by name, outputs, labels, the task's loss) → the loss to minimise
ExtraLoss = Callable[[Mapping[str, "Tensor"], Any, "Tensor", "Tensor"], "Tensor"]


def fit(
    network: nn.Module,
    settings: Settings,
    task: Task,
    train: SampleSet,
    val: SampleSet,
    *,
    device: torch.device,
    progress: Progress,
    scratch: Path | None,
    extra_loss: ExtraLoss | None = None,
    parameters: Iterable[nn.Parameter] = (),
    after_backward: Callable[[nn.Module], None] | None = None,
    fixed: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Train, with a validation after each epoch; loads the best weights into the network, returns one entry per epoch.

    An interrupted training resumes from its last checkpoint in `scratch`, and gives the same weights on a CPU.
    `extra_loss` gives the loss to minimise in place of the task's; `parameters` are trained with the network's;
    `after_backward` may change the gradients. `fixed` are tensors of the network's state that training does not change:
    no checkpoint holds them. Raises Diverged if the loss is not finite, InputError if an option or
    the data do not fit the network, or if memory runs out.
    """
    processes.current().begin_training()
    training = _TrainingLoop(network.to(device), settings, task, train, val, device, tuple(parameters), fixed)
    training.extra_loss, training.after_backward = extra_loss, after_backward
    with torch_errors.translated(settings, device):
        return training.run(progress, scratch, [train.sha256, val.sha256])


class _TrainingLoop:
    extra_loss: ExtraLoss | None = None
    after_backward: Callable[[nn.Module], None] | None = None

    def __init__(
        self,
        network: nn.Module,
        settings: Settings,
        task: Task,
        train: SampleSet,
        val: SampleSet,
        device: torch.device,
        extra: tuple[nn.Parameter, ...],
        fixed: Collection[str],
    ) -> None:
        import torch

        self.network, self.settings, self.task, self.device, self.extra = network, settings, task, device, extra
        self.fixed = frozenset(fixed)
        self.group = processes.current()
        rates.check_prefixes(network, settings.freeze, "freeze")
        images = all(tensor.dim() != 5 for tensor in network.parameters())  # channels_last needs four axes
        channels_last = images and settings.channels_last
        network.to(memory_format=torch.channels_last if channels_last else torch.preserve_format)  # type: ignore[call-overload]
        self.samples, self.validation = Samples(take(train, settings.samples), device), Samples(val, device)
        self.loss, self.validation_loss = losses.select_losses(settings, task, train)
        self.augment = _augmentation(settings, task)
        self.batch_bounds = self.group.batch_bounds(len(self.samples), settings.batch)
        self.optimizer = rates.build_optimizer(network, extra, settings)
        steps = math.ceil((len(self.batch_bounds) - 1) / settings.accumulate)
        self.schedule = rates.build_schedule(self.optimizer, settings, steps)
        self.average = _ema_model(network, settings.ema)
        self.order_rng = torch.Generator().manual_seed(settings.seed)
        self.augment_rng = self.group.generator(self.order_rng, settings.seed)
        self.epoch_rng = self.order_rng.get_state()
        self.best = self.trained_state(network)
        self.position = TrainingPosition()
        self.wrapped: Any = network
        self.forward: Any = network
        self.frozen: bool | None = None
        self._pending: list[tuple[Tensor, int, int]] = []

    def run(self, progress: Progress, scratch: Path | None, sets: list[str]) -> list[dict[str, Any]]:
        self.checkpoint_manager = checkpoint_state.open_manager(self, scratch, sets)
        checkpoint_state.resume(self, self.checkpoint_manager)
        position, settings = self.position, self.settings
        say = session.current().say if self.group.rank == 0 else None
        lines = EpochLines(say, settings, position.epoch)
        with tensorboard.epoch_writer(session.current().tensorboard, position.epoch, self.group.rank) as write_epoch:
            while position.epoch < settings.epochs and position.epochs_without_improvement < settings.patience:
                self._train_epoch(progress, lines.left())
                lines.epoch(position.history[-1])
                write_epoch(position.history[-1])
                if self.group.broadcast_flag(self.checkpoint_manager.due()):
                    checkpoint_state.save(self, self.checkpoint_manager)
            if position.epochs_without_improvement >= settings.patience:
                log.info("stopped early: no better epoch for %d", position.epochs_without_improvement)
                if say is not None:
                    say(f"            stopped early: no better epoch in {settings.patience} (patience)")
        self._finish()
        return position.history

    def trained_state(self, network: nn.Module) -> dict[str, Tensor]:
        """A copy of the network's state, without what is fixed."""
        return copy.deepcopy({name: t for name, t in network.state_dict().items() if name not in self.fixed})

    def _finish(self) -> None:
        import torch

        self.network.load_state_dict(self.best, strict=not self.fixed)
        self._set_frozen(False)
        self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def _train_epoch(self, progress: Progress, left: str) -> None:
        import torch

        position, number = self.position, self.position.epoch + 1
        self._prepare(number)
        if position.batch == 0:
            self.epoch_rng = self.order_rng.get_state()
            shuffled = torch.randperm(len(self.samples), generator=self.order_rng)
        else:  # resumed within an epoch: draw its order again
            shuffled = torch.randperm(len(self.samples), generator=checkpoint_state.generator_from(self.epoch_rng))
        batches = [shuffled[a:b] for a, b in zip(self.batch_bounds, self.batch_bounds[1:], strict=False)]
        shares = [indices[self.group.rank :: self.group.count] for indices in batches[position.batch :]]
        title = f"epoch {number} of {self.settings.epochs}" + (f", {left} left" if left else "")
        has_gradients = False
        for inputs, labels in progress(self.samples.batches(shares), title, len(shares)):
            index, last = position.batch, self._ends_step(position.batch)
            if len(labels) != 1 or len(batches) == 1 or self.group.count > 1:
                self._backward(inputs, labels, index, last)
                has_gradients = True  # batch normalisation needs more than one sample
            position.batch += 1
            if last and has_gradients:
                self._step()
                has_gradients = False
                if self.group.broadcast_flag(self.checkpoint_manager.due()):
                    self._flush_losses()
                    checkpoint_state.save(self, self.checkpoint_manager)
        self._flush_losses()
        self._validate(number)

    def _ends_step(self, index: int) -> bool:
        return (index + 1) % self.settings.accumulate == 0 or index + 2 == len(self.batch_bounds)

    def _backward(self, inputs: dict[str, Tensor], labels: Tensor, index: int, last: bool) -> None:
        """Add one batch's gradients and record its loss."""
        import torch

        if self.augment is not None:
            inputs, labels = self.augment(inputs, labels, self.augment_rng)
        is_bf16 = self.settings.precision == "bf16"
        with self.group.gradient_sync(self.wrapped, last):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16):
                outputs = call(self.network, inputs, self.forward)
            outputs = to_float32(outputs) if is_bf16 else outputs
            loss = self.loss(outputs, labels)
            if self.extra_loss is not None:
                loss = self.extra_loss(inputs, outputs, labels, loss)
            self._pending.append((loss.detach(), len(labels), index))
            if self.device.type == "cpu" or len(self._pending) >= LOSS_INTERVAL:
                self._flush_losses()
            weight = self._weight(len(labels), index)
            self.group.backward(loss if weight == 1 else loss * weight)

    def _weight(self, count: int, index: int) -> float:
        """The weight of a batch's mean loss in its step, so that all samples have equal weight."""
        first = index - index % self.settings.accumulate
        end = min(first + self.settings.accumulate, len(self.batch_bounds) - 1)
        return count * self.group.count / (self.batch_bounds[end] - self.batch_bounds[first])

    def _step(self) -> None:
        import torch

        if self.after_backward is not None:
            self.after_backward(self.network)
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_([*self.network.parameters(), *self.extra], self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def _flush_losses(self) -> None:
        """Add the pending losses to the epoch's sum. Raises Diverged, naming the batch."""
        import torch

        if not self._pending:
            return
        values = torch.stack([loss for loss, _, _ in self._pending]).tolist()
        for value, (_, count, index) in zip(values, self._pending, strict=True):
            if not math.isfinite(value):
                self._diverged(f"the loss became {value} in epoch {self.position.epoch + 1}, batch {index + 1}")
            self.position.loss_sum += value * count
        self._pending.clear()

    def _validate(self, number: int) -> None:
        """Record the epoch's entry, and its weights if they are the best so far."""
        position = self.position
        evaluated = self.network if self.average is None else self.average.module
        evaluation = None
        if self.group.rank == 0:
            # not more samples at once than in training, so that it takes no more memory
            batch, monitor = min(self.settings.batch, BATCH), self.settings.monitor
            evaluation = evaluate(evaluated, self.validation, self.task, self.validation_loss, monitor, batch)
        total = self.group.sum(position.loss_sum)
        metrics, objective = self.group.broadcast(evaluation)
        rate = self.optimizer.param_groups[0]["lr"]
        entry = {"epoch": number, "loss": total / len(self.samples), **metrics, "lr": rate}
        better = objective < position.best_objective or not position.best_epoch
        if better:
            entry["kept"] = True
        position.history.append(entry)
        log.info("epoch %d: %s", number, entry)
        if not math.isfinite(entry["val_loss"]):
            self._diverged(f"the validation loss is not finite after epoch {number}")
        if better:
            self.best = self.trained_state(evaluated)
            position.best_epoch, position.epochs_without_improvement = number, 0
            position.best_objective = (
                objective if math.isfinite(objective) else math.inf
            )  # a metric may have no value yet
        else:
            position.epochs_without_improvement += 1
        position.epoch, position.batch, position.loss_sum = number, 0, 0.0

    def _prepare(self, number: int) -> None:
        """Set which parts are trained in this epoch; frozen parts keep their weights and statistics."""
        self.network.train()
        settings = self.settings
        frozen = bool(settings.freeze) and not 0 < settings.unfreeze <= number
        for prefix in settings.freeze if frozen else ():
            for name, module in self.network.named_modules():
                if rates.is_within(name, prefix):
                    module.eval()
        for name, module in self.network.named_modules() if self.fixed else ():
            if f"{name}.running_mean" in self.fixed:
                module.eval()
        if self.frozen == frozen:
            return
        self._set_frozen(frozen)
        self.wrapped = self.group.wrap(self.network)
        self.forward = torch_errors.compile_network(self.wrapped) if settings.compile else self.wrapped

    def _set_frozen(self, frozen: bool) -> None:
        self.frozen = frozen
        for prefix in self.settings.freeze:
            for name, parameter in self.network.named_parameters():
                if rates.is_within(name, prefix):
                    parameter.requires_grad_(not frozen)

    def _diverged(self, why: str) -> None:
        loadable = self.position.best_epoch and self.group.rank == 0 and not self.fixed
        file = self.checkpoint_manager.keep_best(self.best) if loadable else None
        advice = f"lower the learning rate: --lr {self.settings.lr / 10:g} (in a recipe, the step's lr)"
        if file is not None:
            advice += f"; the weights of epoch {self.position.best_epoch} are kept: --init {file}"
        raise Diverged("training diverged", why, advice)


def _augmentation(settings: Settings, task: Task) -> Callable[..., Any] | None:
    """The task's data augmentation, if it is on by default or requested."""
    if settings.augment == "on" and task.augment is None:
        raise InputError(f"{task.name} has no augmentation", "the task has no method augment", "leave out augment")
    enabled = settings.augment == "on" or (settings.augment == "auto" and task.augments)
    return task.augment if enabled else None


def _ema_model(network: nn.Module, decay: float) -> Any:
    """An exponential moving average of weights and statistics, None without a decay."""
    if not decay:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=mean, use_buffers=True)
