"""nothing → torch: train a task's network from scratch, or from the weights named in `init`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgekit import networks, registry, training
from edgekit.errors import InputError
from edgekit.networks.factory import running
from edgekit.training.distillation import Distillation
from edgekit.training.settings import Settings
from edgekit.types import Artifact, ArtifactRef, Context, Kind, Notes, Step, Task

if TYPE_CHECKING:
    from torch import nn

#: files of `edgekit/training` that decide what is made; and with a teacher
DECIDING = ("engine", "settings", "data", "calls", "losses", "rates")
TAUGHT = ("distillation", "taught")


@dataclass(frozen=True)
class Train(Settings, Step):
    """Learning as the settings say; the weights of the best validation epoch are kept.

    `model`: one of the task's networks, or a reference to one's own (`net.py:Net`), built with the task's arguments.
    `width` multiplies its channels and `dropout` is that before its last layer, where the network has such arguments
    (width 0: its own). `init`: an artifact of the recipe, a .safetensors file, or a checkpoint that torch loads with
    `weights_only=True`. `teacher`: an artifact of the recipe, or the model.json of a torch artifact, that is learnt
    from as well; `distil`, `temperature`, `alpha` and `weight` say how (see `training/distillation.py`).
    """

    gives: ClassVar[Kind] = Kind("torch")
    needs: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    model: str = ""
    width: float = 0.0
    dropout: float = 0.0
    init: ArtifactRef = ""
    teacher: ArtifactRef = ""
    distil: str = "logits"
    temperature: float = 4.0
    alpha: float = 0.9
    weight: float = 1.0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def check(self, task: Task | None) -> Iterator[str]:
        if task is None:
            yield "there is no task to train on"
        elif self.model and self.model not in task.models and not registry.is_reference(self.model):
            yield f"{task.name} has no network {self.model!r} ({registry.suggest(self.model, task.models)})"
        yield from self.problems()
        if not 0 <= self.width < math.inf:
            yield "width must be a positive number, or 0 for the network's own"
        yield from self._distillation().problems()
        if self.teacher and self.compile and self._distillation().chosen != ("logits",):
            yield "features are not seen in a compiled network: leave out compile, or take logits"
        if not 0 <= self.dropout < 1:
            yield "dropout must be from 0 to below 1"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {split: f"{task.name}:{split}" for split in ("train", "val")} if task else {}

    def sources(self) -> tuple[Path, ...]:
        names = (*DECIDING, *(TAUGHT if self.teacher else ()))
        deciding = (Path(training.__file__).parent / f"{name}.py" for name in names)
        return (*deciding, *((networks.source(self.model),) if self.model else ()))

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

    def shaped(self, model: str) -> dict[str, float]:
        """Width and dropout as arguments of the network. Raises InputError where it has none of that name."""
        wanted = {"width": self.width, "dropout": self.dropout}
        given = {name: value for name, value in wanted.items() if value}
        known = inspect.signature(registry.load("models", model)).parameters if given else {}
        if lacking := [name for name in given if name not in known]:
            what = f"{model} takes no {lacking[0]}"
            raise InputError(what, "its arguments: " + ", ".join(known), f"leave it out, or add {lacking[0]} to it")
        return given

    def _made(self, model: str, ctx: Context, inputs: Mapping[str, Artifact]) -> tuple[Any, ...]:
        """The trained network on the CPU, what it was trained on, its arguments, specs and history."""
        import torch

        from edgekit.training import engine
        from edgekit.training.calls import chosen_device, specs

        assert ctx.task is not None
        arguments = {**ctx.task.arguments(model), **self.shaped(model)}
        torch.manual_seed(self.seed)
        network = networks.build(model, arguments)
        if self.init:
            weights = inputs["init"].path / networks.WEIGHTS if "init" in inputs else Path(self.init)
            networks.load_weights(network, weights)
        device = chosen_device(self.accelerator)
        sides = specs(network.eval(), ctx.sets["val"].inputs)
        train, val = ctx.sets["train"], ctx.sets["val"]
        if self.teacher:
            from edgekit.training import taught

            teacher, how = self._teacher(inputs), self._distillation()
            history = taught.fit(network, self, ctx, device=device, teacher=teacher, how=how)
        else:
            history = engine.fit(
                network, self, ctx.task, train, val, device=device, progress=ctx.progress, scratch=ctx.scratch
            )
        return network.cpu().eval(), device, arguments, sides, history

    def _distillation(self) -> Distillation:
        return Distillation(self.distil, self.temperature, self.alpha, self.weight)

    def _teacher(self, inputs: Mapping[str, Artifact]) -> nn.Module:
        """Raises InputError where it is no torch artifact."""
        if "teacher" not in inputs:
            return networks.load(Path(self.teacher).parent)
        artifact = inputs["teacher"]
        if artifact.kind.format != "torch":
            raise InputError(f"{artifact.name} is {artifact.kind}", "a teacher is a torch network", "name that one")
        return networks.load(artifact.path)
