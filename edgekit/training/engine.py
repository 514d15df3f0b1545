"""The one training loop: for a task's network, for fine-tuning what was pruned, and for learning from a teacher."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import Diverged, InputError
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.task import Task
from edgekit.sets import take
from edgekit.training import losses, processes, rates, refusals, session, states, tensorboard
from edgekit.training.calls import call, floats
from edgekit.training.data import Samples
from edgekit.training.evaluation import evaluate
from edgekit.training.settings import Settings
from edgekit.training.states import TrainingPosition

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger("edgekit")

#: on an accelerator the loss is looked at after so many batches: looking waits for it
LOOKED_AT = 16

#: (inputs by name, outputs, labels, the loss so far) → the loss to make small
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
) -> list[dict[str, Any]]:
    """Train, judging after each epoch; leaves the best weights in the network, and returns one entry per epoch.

    What is interrupted goes on from its last checkpoint in `scratch`, to the same weights on a CPU. `extra_loss` gives
    the loss to make small in place of the task's; `parameters` learn beside the network's; `after_backward` may change
    the gradients. Raises Diverged where the loss is not finite, InputError where something does not fit or memory ends.
    """
    processes.current().begin()
    training = _Training(network.to(device), settings, task, train, val, device, tuple(parameters))
    training.extra_loss, training.after_backward = extra_loss, after_backward
    with refusals.explained(settings, device):
        return training.run(progress, scratch, [train.sha256, val.sha256])


class _Training:
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
    ) -> None:
        import torch

        self.network, self.settings, self.task, self.device, self.extra = network, settings, task, device, extra
        self.group = processes.current()
        rates.check_prefixes(network, settings.freeze, "freeze")
        images = all(tensor.dim() != 5 for tensor in network.parameters())  # channels_last knows four axes only
        channels_last = images and settings.channels_last
        network.to(memory_format=torch.channels_last if channels_last else torch.preserve_format)  # type: ignore[call-overload]
        self.samples, self.exam = Samples(take(train, settings.samples), device), Samples(val, device)
        self.loss, self.judged_by = losses.chosen(settings, task, train)
        self.augment = _augmentation(settings, task)
        self.cuts = self.group.cuts(len(self.samples), settings.batch)
        self.optimizer = rates.optimizer(network, extra, settings)
        steps = math.ceil((len(self.cuts) - 1) / settings.accumulate)
        self.schedule = rates.schedule(self.optimizer, settings, steps)
        self.average = _average(network, settings.ema)
        self.order = torch.Generator().manual_seed(settings.seed)
        self.chance = self.group.generator(self.order, settings.seed)
        self.began = self.order.get_state()
        self.best = copy.deepcopy(network.state_dict())
        self.now = TrainingPosition()
        self.wrapped: Any = network
        self.through: Any = network
        self.frozen: bool | None = None
        self._pending: list[tuple[Tensor, int, int]] = []

    def run(self, progress: Progress, scratch: Path | None, sets: list[str]) -> list[dict[str, Any]]:
        self.keeper = states.keeper(self, scratch, sets)
        states.resume(self, self.keeper)
        now, settings = self.now, self.settings
        with tensorboard.opened(session.current().tensorboard, now.epoch, self.group.rank) as shown:
            while now.epoch < settings.epochs and now.since < settings.patience:
                self._learn_for_an_epoch(progress)
                shown(now.history[-1], self.optimizer.param_groups[0]["lr"])
                if self.group.any(self.keeper.due()):
                    states.save(self, self.keeper)
            if now.since >= settings.patience:
                log.info("stopped early: no better epoch for %d", now.since)
        self._finish()
        return now.history

    def _finish(self) -> None:
        import torch

        self.network.load_state_dict(self.best)
        self._hold(False)
        self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def _learn_for_an_epoch(self, progress: Progress) -> None:
        import torch

        now, number = self.now, self.now.epoch + 1
        self._prepare(number)
        if now.batch == 0:
            self.began = self.order.get_state()
            shuffled = torch.randperm(len(self.samples), generator=self.order)
        else:  # went on within an epoch: its order is drawn again
            shuffled = torch.randperm(len(self.samples), generator=states.generator(self.began))
        batches = [shuffled[a:b] for a, b in zip(self.cuts, self.cuts[1:], strict=False)]
        shares = [numbers[self.group.rank :: self.group.count] for numbers in batches[now.batch :]]
        title = f"epoch {number} of {self.settings.epochs}"
        learnt = False
        for inputs, labels in progress(self.samples.batches(shares), title, len(shares)):
            index, last = now.batch, self._ends_a_step(now.batch)
            if len(labels) != 1 or len(batches) == 1 or self.group.count > 1:
                self._learn(inputs, labels, index, last)
                learnt = True  # normalisation over a batch of one has nothing to go by
            now.batch += 1
            if last and learnt:
                self._step()
                learnt = False
                if self.group.any(self.keeper.due()):
                    self._look()
                    states.save(self, self.keeper)
        self._look()
        self._judge(number)

    def _ends_a_step(self, index: int) -> bool:
        return (index + 1) % self.settings.accumulate == 0 or index + 2 == len(self.cuts)

    def _learn(self, inputs: dict[str, Tensor], labels: Tensor, index: int, last: bool) -> None:
        """Gradients of one batch, its loss noted."""
        import torch

        if self.augment is not None:
            inputs, labels = self.augment(inputs, labels, self.chance)
        low = self.settings.precision == "bf16"
        with self.group.learning(self.wrapped, last):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
                outputs = call(self.network, inputs, self.through)
            outputs = floats(outputs) if low else outputs
            loss = self.loss(outputs, labels)
            if self.extra_loss is not None:
                loss = self.extra_loss(inputs, outputs, labels, loss)
            self._pending.append((loss.detach(), len(labels), index))
            if self.device.type == "cpu" or len(self._pending) >= LOOKED_AT:
                self._look()
            weight = self._weight(len(labels), index)
            self.group.backward(loss if weight == 1 else loss * weight)

    def _weight(self, count: int, index: int) -> float:
        """What a batch's mean loss weighs in its step, so that every sample weighs the same."""
        first = index - index % self.settings.accumulate
        end = min(first + self.settings.accumulate, len(self.cuts) - 1)
        return count * self.group.count / (self.cuts[end] - self.cuts[first])

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

    def _look(self) -> None:
        """Sum the losses of batches since the last look. Raises Diverged, naming the batch."""
        import torch

        if not self._pending:
            return
        values = torch.stack([loss for loss, _, _ in self._pending]).tolist()
        for value, (_, count, index) in zip(values, self._pending, strict=True):
            if not math.isfinite(value):
                self._diverged(f"the loss became {value} in epoch {self.now.epoch + 1}, batch {index + 1}")
            self.now.total += value * count
        self._pending.clear()

    def _judge(self, number: int) -> None:
        """The epoch's entry, and its weights where they are the best so far."""
        now = self.now
        judged = self.network if self.average is None else self.average.module
        found = None
        if self.group.rank == 0:
            found = evaluate(judged, self.exam, self.task, self.judged_by, self.settings.judge)
        total = self.group.sum(now.total)
        figures, cost = self.group.told(found)
        entry = {"epoch": number, "loss": total / len(self.samples), **figures}
        better = cost < now.least or not now.best_epoch
        if better:
            entry["kept"] = True
        now.history.append(entry)
        log.info("epoch %d: %s", number, entry)
        if not math.isfinite(entry["val_loss"]):
            self._diverged(f"the validation loss is not finite after epoch {number}")
        if better:
            self.best = copy.deepcopy(judged.state_dict())
            now.best_epoch, now.since = number, 0
            now.least = cost if math.isfinite(cost) else math.inf  # a metric may have no value yet
        else:
            now.since += 1
        now.epoch, now.batch, now.total = number, 0, 0.0

    def _prepare(self, number: int) -> None:
        """Set what learns in this epoch: frozen parts do not, and their statistics stay as they are."""
        self.network.train()
        settings = self.settings
        frozen = bool(settings.freeze) and not 0 < settings.unfreeze <= number
        for prefix in settings.freeze if frozen else ():
            for name, module in self.network.named_modules():
                if rates.under(name, prefix):
                    module.eval()
        if self.frozen == frozen:
            return
        self._hold(frozen)
        self.wrapped = self.group.wrap(self.network)
        self.through = refusals.compiled(self.wrapped) if settings.compile else self.wrapped

    def _hold(self, frozen: bool) -> None:
        self.frozen = frozen
        for prefix in self.settings.freeze:
            for name, parameter in self.network.named_parameters():
                if rates.under(name, prefix):
                    parameter.requires_grad_(not frozen)

    def _diverged(self, why: str) -> None:
        kept = self.keeper.keep_best(self.best) if self.now.best_epoch and self.group.rank == 0 else None
        lower = f"lower the learning rate: --set train.lr={self.settings.lr / 10:g}"
        if kept is not None:
            lower += f"; the weights of epoch {self.now.best_epoch} are kept: --init {kept}"
        raise Diverged("training diverged", why, lower)


def _augmentation(settings: Settings, task: Task) -> Callable[..., Any] | None:
    """The task's own changes of its samples: where it makes them by itself, or where they were asked for."""
    if settings.augment == "on" and task.augment is None:
        raise InputError(f"{task.name} has no augmentation", "it would have a method augment", "leave augment out")
    wanted = settings.augment == "on" or (settings.augment == "auto" and task.augments)
    return task.augment if wanted else None


def _average(network: nn.Module, decay: float) -> Any:
    """A running mean of the weights and of the statistics, None without a decay."""
    if not decay:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=mean, use_buffers=True)
