"""nothing → torch: train a task's network from scratch, or from the weights named in `init`."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgekit import networks, registry
from edgekit.errors import Diverged, InputError
from edgekit.types import Artifact, ArtifactRef, Context, Kind, Notes, Step, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Train(Step):
    """AdamW under a one-cycle learning rate; the weights of the best validation epoch are kept.

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
        elif self.model and self.model not in task.models:
            yield f"{task.name} has no network {self.model!r} ({registry.suggest(self.model, task.models)})"
        for name in ("epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        if not 0 < self.lr < math.inf:
            yield "lr must be a positive number"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {split: f"{task.name}:{split}" for split in ("train", "val")} if task else {}

    def sources(self) -> tuple[Path, ...]:
        return (registry.source("models", self.model),) if self.model else ()

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        """Raises Diverged where the loss becomes NaN or infinite, InputError where `init` does not fit."""
        import torch

        assert ctx.task is not None
        model = self.model or ctx.task.models[0]
        arguments = ctx.task.arguments(model)
        torch.manual_seed(self.seed)
        network = networks.build(model, arguments)
        if self.init:
            weights = inputs["init"].path / networks.WEIGHTS if "init" in inputs else Path(self.init)
            networks.load_weights(network, weights)
        device = _device(self.accelerator)
        network, history = _fit(self, network.to(device), ctx, device)
        specs = _specs(network.cpu().eval(), ctx.sets["val"].inputs)
        networks.save(network, model, arguments, specs, out)
        best = min(history, key=lambda epoch: epoch["val_loss"])
        details = {"model": model, "device": str(device), "history": history, "best_epoch": best["epoch"]}
        return Notes(details=details)


def _device(accelerator: str) -> torch.device:
    """The device asked for; "auto" takes the best there is. Raises InputError where it is not there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, available in there.items() if available)
    if not there[accelerator]:
        raise InputError(f"torch sees no {accelerator} here", next="use --accelerator auto")
    return torch.device(accelerator)


def _fit(step: Train, network: nn.Module, ctx: Context, device: torch.device) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train, evaluating after each epoch; returns the network with its best weights, and one entry per epoch."""
    import torch

    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, labels = _tensors(ctx.sets["train"], device)
    count, batches = len(labels), math.ceil(len(labels) / step.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=step.lr, weight_decay=step.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, step.lr, total_steps=batches * step.epochs)
    order = torch.Generator().manual_seed(step.seed)
    best, best_loss, since = copy.deepcopy(network.state_dict()), math.inf, 0
    history: list[dict[str, Any]] = []
    for epoch in range(1, step.epochs + 1):
        network.train()
        total = 0.0
        shuffled = torch.randperm(count, generator=order).to(device)
        title = f"epoch {epoch} of {step.epochs}"
        for index in ctx.progress(range(batches), title, batches):
            chosen = shuffled[index * step.batch : (index + 1) * step.batch]
            loss = ctx.task.loss(network(*_batch(inputs, chosen)), labels[chosen])  # type: ignore[union-attr]
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _diverged(step, f"the loss became {value} in epoch {epoch}, batch {index + 1}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += value * len(chosen)
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
    return network, history


def _diverged(step: Train, why: str) -> Diverged:
    return Diverged("training diverged", why, f"lower the learning rate: --set train.lr={step.lr / 10:g}")


def _evaluate(network: nn.Module, ctx: Context, device: torch.device) -> dict[str, float]:
    """Loss and metric over the validation split."""
    import torch

    assert ctx.task is not None
    network.eval()
    inputs, labels = _tensors(ctx.sets["val"], device)
    with torch.inference_mode():
        parts = [
            network(*_batch(inputs, slice(first, first + EVALUATION_BATCH)))
            for first in range(0, len(labels), EVALUATION_BATCH)
        ]
        outputs = torch.cat(parts)
        loss = float(ctx.task.loss(outputs, labels))
    scores = ctx.task.score({"output": outputs.float().cpu().numpy()}, labels.cpu().numpy())
    return {"val_loss": loss, f"val_{scores.name}": float(scores.per_sample.mean())}


def _tensors(data: Any, device: torch.device) -> tuple[list[Tensor], Tensor]:
    import torch

    inputs = [torch.from_numpy(array).to(device) for array in data.inputs.values()]
    return inputs, torch.from_numpy(data.labels).to(device)


def _batch(inputs: list[Tensor], index: Any) -> list[Tensor]:
    """Raw integers as float, so that the network's own normalisation sees what a device would give it."""
    return [tensor[index].float() for tensor in inputs]


def _specs(network: nn.Module, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Input and output specs, the batch axis dynamic, found by running two samples."""
    import torch

    batch = [torch.from_numpy(array[:2]).float() for array in samples.values()]
    with torch.inference_mode():
        output = network(*batch)
    inputs = [
        {"name": name, "dtype": "float32", "shape": [None, *tensor.shape[1:]]}
        for name, tensor in zip(samples, batch, strict=True)
    ]
    return {"inputs": inputs, "outputs": [{"name": "output", "dtype": "float32", "shape": [None, *output.shape[1:]]}]}
