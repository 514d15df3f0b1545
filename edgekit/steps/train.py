"""nothing → torch: train a task's network from scratch, or from the weights named in `init`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

from edgekit import networks
from edgekit.core import errors, registry, user_code
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import InputError
from edgekit.core.history import best
from edgekit.core.progress import Progress
from edgekit.core.step import ArtifactRef, Context, NetworkRef, Step, StepResult
from edgekit.core.task import Task
from edgekit.core.user_code import running
from edgekit.networks import named, weights
from edgekit.runs.named_sets import refuse_other_folders
from edgekit.sets import take
from edgekit.training import engine, session
from edgekit.training import folds as foldss
from edgekit.training.distillation import Distillation, teacher_of
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")


@dataclass(frozen=True)
class Train(Settings, Distillation, Step):
    """Learning as the settings say; the weights of the best validation epoch are kept.

    `model`: one of the task's networks, or a reference to one's own (`net.py:Net`), built with the task's arguments.
    `width` multiplies its channels and `dropout` is that before its last layer, where the network has such arguments
    (width 0: its own). `init`: an artifact of the recipe, a .safetensors file, a checkpoint that torch loads
    with `weights_only=True`, or a pretrained network of timm (`timm:NAME`); parts that start with a prefix in `fresh`
    are not taken from it. `folds`: cross-validate over so many parts of the training split first; the network that is
    kept learns from all of it. With a `teacher`, that is learnt from as well (see `training/distillation.py`).
    """

    produces: ClassVar[Kind] = Kind("torch")
    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    model: NetworkRef = ""
    width: float = 0.0
    dropout: float = 0.0
    init: ArtifactRef = ""
    fresh: tuple[str, ...] = ()
    folds: int = 0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def check(self, task: Task | None) -> Iterator[str]:
        if task is None:
            yield "there is no task to train on"
        elif self.model and self.model not in task.models and not user_code.is_reference(self.model):
            yield f"{task.name} has no network {self.model!r} ({errors.suggest(self.model, task.models)})"
        yield from self.problems()
        if not 0 <= self.width < math.inf:
            yield "width must be a positive number, or 0 for the network's own"
        if self.folds < 0 or self.folds == 1:
            yield "folds must be at least 2, or 0 for no cross-validation"
        if self.fresh and not self.init:
            yield "fresh needs weights to start from: name them in init"
        yield from self.teaching_problems()
        if self.teacher and self.compile and self.chosen != ("logits",):
            yield "features are not seen in a compiled network: leave out compile, or take logits"
        if self.teacher and self.folds:
            yield "folds are without a teacher: leave out one of them"
        if not 0 <= self.dropout < 1:
            yield "dropout must be from 0 to below 1"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {split: f"{task.name}:{split}" for split in ("train", "val")} if task else {}

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises Diverged where the loss is not finite, InputError where `init` or the network does not fit."""
        assert ctx.task is not None
        model = self.model or ctx.task.models[0]
        made = partial(self._made, model, ctx, inputs)
        if any(map(user_code.is_reference, (model, ctx.task.name))):
            trained = running(model, f"{model} cannot be trained", made)
        else:
            trained = made()
        named.save(trained.network, model, trained.arguments, trained.specs, out)
        kept = best(trained.history)
        details = {"model": model, "device": trained.device, "history": trained.history, "best_epoch": kept["epoch"]}
        return StepResult(details=details | ({"cross_validation": trained.folds} if trained.folds else {}))

    def shaped(self, model: str) -> dict[str, float]:
        """Width and dropout as arguments of the network. Raises InputError where it has none of that name."""
        wanted = {"width": self.width, "dropout": self.dropout}
        given = {name: value for name, value in wanted.items() if value}
        known = inspect.signature(registry.load("models", model)).parameters if given else {}
        if lacking := [name for name in given if name not in known]:
            what = f"{model} takes no {lacking[0]}"
            raise InputError(what, "its arguments: " + ", ".join(known), f"leave it out, or add {lacking[0]} to it")
        return given

    def _made(self, model: str, ctx: Context, inputs: Mapping[str, Artifact]) -> _Trained:
        """The trained network on the CPU, with what is recorded of it."""
        from edgekit.training.calls import chosen_device, specs

        assert ctx.task is not None
        refuse_other_folders(ctx.task.name)
        device, train, val = chosen_device(self.accelerator), ctx.sets["train"], ctx.sets["val"]
        network, arguments = self._network(model, ctx, inputs)
        sides = specs(network.eval(), val.inputs)
        folds = self._cross_validated(partial(self._network, model, ctx, inputs), ctx, device) if self.folds else {}
        if folds:  # the training below must not notice
            network, _ = self._network(model, ctx, inputs)
        if self.teacher:
            from edgekit.training import distill

            teacher = teacher_of(self.teacher, inputs)
            history = distill.fit(network, self, ctx, device=device, teacher=teacher, how=self)
        else:
            history = engine.fit(
                network, self, ctx.task, train, val, device=device, progress=ctx.progress, scratch=ctx.scratch
            )
        return _Trained(network.cpu().eval(), str(device), arguments, sides, history, folds)

    def _network(self, model: str, ctx: Context, inputs: Mapping[str, Artifact]) -> tuple[nn.Module, dict[str, Any]]:
        """As it is before training, and the arguments it was built with."""
        import torch

        assert ctx.task is not None
        arguments = {**ctx.task.arguments(model), **self.shaped(model)}
        torch.manual_seed(self.seed)
        network = named.build(model, arguments)
        if self.init:
            given = str(inputs["init"].path / networks.WEIGHTS) if "init" in inputs else self.init
            weights.load_weights(network, given, self.fresh)
        return network, arguments

    def _cross_validated(self, network: Callable[[], tuple[nn.Module, Any]], ctx: Context, device: Any) -> Any:
        """Each fold's best epoch, their mean and spread; the networks are not kept."""
        assert ctx.task is not None
        found = []
        for index, (learn, judge) in enumerate(
            foldss.split(take(ctx.sets["train"], self.samples), self.folds, self.seed)
        ):
            scratch = ctx.scratch / f"fold-{index + 1}" if ctx.scratch else None
            titled = partial(_titled, ctx.progress, f"fold {index + 1} of {self.folds}, ")
            made, _ = network()
            with session.part(f"fold-{index + 1}"):
                history = engine.fit(
                    made, self, ctx.task, learn, judge, device=device, progress=titled, scratch=scratch
                )
            found.append({key: value for key, value in best(history).items() if key != "kept"})
            ctx.log.info("fold %d of %d: %s", index + 1, self.folds, found[-1])
        return foldss.summary(found)


class _Trained(NamedTuple):
    network: nn.Module
    device: str
    arguments: dict[str, Any]
    specs: dict[str, Any]
    history: list[dict[str, Any]]
    folds: dict[str, Any]


def _titled(progress: Progress, title: str, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    return progress(items, title + what, total)
