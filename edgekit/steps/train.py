"""nothing → torch: train a task's network from scratch, or from the weights named in `init`."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit import networks, registry
from edgekit.errors import Diverged, InputError
from edgekit.networks.factory import running
from edgekit.types import Artifact, ArtifactRef, Context, Kind, Notes, SampleSet, Step, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EVALUATION_BATCH = 500
#: a set up to this size is held in memory, on the accelerator where there is one
WHOLE_BYTES = 512_000_000


@dataclass(frozen=True)
class Train(Step):
    """AdamW under a one-cycle learning rate; the weights of the best validation epoch are kept.

    `model`: one of the task's networks, or a reference to one's own (`net.py:Net`), built with the task's arguments.
    `patience` epochs without a better validation loss end the training. `init`: an artifact of the recipe, a
    .safetensors file, or a checkpoint that torch loads with `weights_only=True`.
    """

    gives: ClassVar[Kind] = Kind("torch")
    needs: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    model: str = ""
    epochs: int = 10
    lr: float = 0.003
    batch: int = 128
    weight_decay: float = 0.01
    patience: int = 5
    seed: int = 0
    init: ArtifactRef = ""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def check(self, task: Task | None) -> Iterator[str]:
        if task is None:
            yield "there is no task to train on"
        elif self.model and self.model not in task.models and not registry.is_reference(self.model):
            yield f"{task.name} has no network {self.model!r} ({registry.suggest(self.model, task.models)})"
        for name in ("epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        if not 0 < self.lr < math.inf:
            yield "lr must be a positive number"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {split: f"{task.name}:{split}" for split in ("train", "val")} if task else {}

    def sources(self) -> tuple[Path, ...]:
        return (networks.source(self.model),) if self.model else ()

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        """Raises Diverged where the loss is not finite, InputError where `init` or the network does not fit."""
        assert ctx.task is not None
        model = self.model or ctx.task.models[0]
        made = partial(self._made, model, ctx, inputs)
        if any(map(registry.is_reference, (model, ctx.task.name))):
            network, device, arguments, specs, history = running(model, f"{model} cannot be trained", made)
        else:
            network, device, arguments, specs, history = made()
        networks.save(network, model, arguments, specs, out)
        best = min(history, key=lambda epoch: epoch["val_loss"])
        details = {"model": model, "device": str(device), "history": history, "best_epoch": best["epoch"]}
        return Notes(details=details)

    def _made(self, model: str, ctx: Context, inputs: Mapping[str, Artifact]) -> tuple[Any, ...]:
        """The trained network on the CPU, what it was trained on, its arguments, specs and history."""
        import torch

        assert ctx.task is not None
        arguments = ctx.task.arguments(model)
        torch.manual_seed(self.seed)
        network = networks.build(model, arguments)
        if self.init:
            weights = inputs["init"].path / networks.WEIGHTS if "init" in inputs else Path(self.init)
            networks.load_weights(network, weights)
        device = _device(self.accelerator)
        specs = _specs(network.eval(), ctx.sets["val"].inputs)
        history = _fit(self, network.to(device), ctx, device)
        return network.cpu().eval(), device, arguments, specs, history


def _device(accelerator: str) -> torch.device:
    """The device asked for; "auto" takes the best there is. Raises InputError where it is not there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, available in there.items() if available)
    if not there[accelerator]:
        raise InputError(f"torch sees no {accelerator} here", next="use --accelerator auto")
    return torch.device(accelerator)


def _fit(step: Train, network: nn.Module, ctx: Context, device: torch.device) -> list[dict[str, Any]]:
    """Train, evaluating after each epoch; leaves the best weights in the network, and returns one entry per epoch."""
    import torch

    assert ctx.task is not None
    images = all(tensor.dim() != 5 for tensor in network.parameters())  # channels_last knows four axes only
    network.to(memory_format=torch.channels_last if images else torch.preserve_format)  # type: ignore[call-overload]
    samples = _Samples(ctx.sets["train"], device)
    count, batches = len(samples), math.ceil(len(samples) / step.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=step.lr, weight_decay=step.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, step.lr, total_steps=batches * step.epochs)
    order = torch.Generator().manual_seed(step.seed)
    best, best_loss, since = copy.deepcopy(network.state_dict()), math.inf, 0
    history: list[dict[str, Any]] = []
    for epoch in range(1, step.epochs + 1):
        network.train()
        total = 0.0
        shuffled = torch.randperm(count, generator=order)
        title = f"epoch {epoch} of {step.epochs}"
        for index in ctx.progress(range(batches), title, batches):
            inputs, labels = samples.batch(shuffled[index * step.batch : (index + 1) * step.batch])
            if len(labels) == 1 < batches:
                continue  # normalisation over a batch has nothing to go by
            if hasattr(ctx.task, "augment"):
                inputs, labels = ctx.task.augment(inputs, labels, order)
            loss = ctx.task.loss(_call(network, inputs), labels)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _diverged(step, f"the loss became {value} in epoch {epoch}, batch {index + 1}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += value * len(labels)
        entry = {"epoch": epoch, "loss": total / count, **_evaluate(network, ctx, device)}
        history.append(entry)
        ctx.log.info("epoch %d: %s", epoch, entry)
        if not math.isfinite(entry["val_loss"]):
            raise _diverged(step, f"the validation loss is not finite after epoch {epoch}")
        if entry["val_loss"] < best_loss:
            best, best_loss, since = copy.deepcopy(network.state_dict()), entry["val_loss"], 0
        else:
            since += 1
            if since >= step.patience:
                ctx.log.info("stopped early: no better validation loss for %d epochs", since)
                break
    network.load_state_dict(best)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return history


def _diverged(step: Train, why: str) -> Diverged:
    return Diverged("training diverged", why, f"lower the learning rate: --set train.lr={step.lr / 10:g}")


def _evaluate(network: nn.Module, ctx: Context, device: torch.device) -> dict[str, float]:
    """Loss and metric over the validation split, batch by batch."""
    import torch

    from edgekit.networks.interface import named

    assert ctx.task is not None
    network.eval()
    samples = _Samples(ctx.sets["val"], device)
    total, parts, labels = 0.0, [], []
    with torch.inference_mode():
        for first in range(0, len(samples), EVALUATION_BATCH):
            chosen = torch.arange(first, min(first + EVALUATION_BATCH, len(samples)))
            inputs, wanted = samples.batch(chosen)
            outputs = _call(network, inputs)
            total += float(ctx.task.loss(outputs, wanted)) * len(wanted)
            parts.append({name: as_array(value) for name, value in named(outputs).items()})
            labels.append(as_array(wanted))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    scores = ctx.task.score(found, np.concatenate(labels))
    return {"val_loss": total / len(samples), f"val_{scores.name}": scores.value}


class _Samples:
    """A set on the device where it is small; else batches are read from where it lies."""

    def __init__(self, data: SampleSet, device: torch.device) -> None:
        """Raises InputError for a set without labels."""
        import torch

        if data.labels is None:
            raise InputError(f"{data.name} has no labels", "there is nothing to learn from", "name a set with labels")
        labels = data.labels.astype(np.int64 if data.labels.dtype.kind in "iub" else np.float32)
        self._labels = torch.from_numpy(labels).to(device)
        self._device = device
        self._inputs: dict[str, Any] = dict(data.inputs)
        if sum(array.nbytes for array in data.inputs.values()) <= WHOLE_BYTES:
            whole = {name: np.require(array, requirements="W") for name, array in data.inputs.items()}
            self._inputs = {name: torch.from_numpy(array).to(device) for name, array in whole.items()}

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The inputs, as the network takes them, and labels of the samples with these numbers."""
        here = chosen.to(self._device)
        inputs = {
            name: as_input(array[chosen.numpy()]).to(self._device)
            if isinstance(array, np.ndarray)
            else as_input(array[here])
            for name, array in self._inputs.items()
        }
        return inputs, self._labels[here]


def as_input(samples: Any) -> Tensor:
    """Raw values as float, so that the network's own normalisation sees what a device would give it.

    int32 and int64 are numbers of words or the like, and truth values are masks: these stay as they are.
    """
    import torch

    tensor = samples if isinstance(samples, torch.Tensor) else torch.from_numpy(np.array(samples))
    return tensor if tensor.dtype in (torch.int32, torch.int64, torch.bool) else tensor.float()


def as_array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array


def _keywords(network: nn.Module, names: Iterable[str]) -> list[str]:
    """The inputs' names, where there are several and `forward` has parameters of these names; else none."""
    wanted = list(names)
    return wanted if len(wanted) > 1 and set(wanted) <= set(inspect.signature(network.forward).parameters) else []


def _call(network: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    if _keywords(network, inputs):
        return network(**inputs)
    return network(*inputs.values())


def _specs(network: nn.Module, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Input and output specs, the batch axis open, found by running two samples."""
    import torch

    from edgekit.networks.interface import named, spec_of

    inputs = {name: as_input(array[:2]) for name, array in samples.items()}
    with torch.inference_mode():
        made = _call(network, inputs)
    sides = {"inputs": inputs, "outputs": named(made)}
    for name, tensor in sides["outputs"].items():
        if tensor.ndim == 0 or tensor.shape[0] != len(next(iter(inputs.values()))):
            what = f"output {name!r} has shape {list(tensor.shape)} for two samples"
            raise InputError(what, "its first axis is not the batch", "mend the network's forward")
    specs = {side: [asdict(spec_of(name, t, {0})) for name, t in found.items()] for side, found in sides.items()}
    keywords = _keywords(network, inputs)
    return specs if isinstance(made, torch.Tensor) and not keywords else {**specs, "call": keywords}
