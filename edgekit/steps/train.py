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
from edgekit.core.user_code import run_user_code
from edgekit.networks import named, pretrained, weights
from edgekit.runs.named_sets import check_class_folders
from edgekit.sets import take
from edgekit.training import engine, epoch_lines, processes, session
from edgekit.training import folds as foldss
from edgekit.training.calls import select_device, specs
from edgekit.training.distillation_settings import DistillationSettings, teacher_of
from edgekit.training.lora_settings import LoraSettings
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from edgekit.training.lora import Adapted

T = TypeVar("T")


@dataclass(frozen=True)
class Train(Settings, DistillationSettings, LoraSettings, Step):
    """Training by the settings; the weights of the best validation epoch are kept.

    `model`: one of the task's networks, or a reference to your own (`net.py:Net`), built with the task's arguments.
    `width` multiplies its channels and `dropout` is that before its last layer, if the network has such arguments
    (width 0: its own). `init`: an artifact of the recipe, a .safetensors file, a checkpoint that torch loads
    with `weights_only=True`, a pretrained network of timm (`timm:NAME`), or a Hugging Face directory; parts that start
    with a prefix in `fresh` are not loaded from it. `folds`: cross-validate over so many parts of the training split
    first; the network that is kept is trained on all of it. A `teacher` adds distillation (see
    `training/distillation.py`), `lora` trains adapters of the weights from `init` (`training/lora_settings.py`), which
    are stored in the folder `adapter`, too.
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

    def __post_init__(self) -> None:
        if self.lora:  # only then peft is needed, and its version a part of the id
            object.__setattr__(self, "tools", (*type(self).tools, "peft"))
            object.__setattr__(self, "extra", "lora")

    def check(self, task: Task | None) -> Iterator[str]:
        if task is None:
            yield "there is no task to train on"
        elif self.model and self.model == task.pretrained:
            if not self.init:
                yield f"{self.model} needs the weights of a Hugging Face directory: name its import in init"
        elif self.model and self.model not in (*task.models, task.fallback) and not user_code.is_reference(self.model):
            yield f"{task.name} has no network {self.model!r} ({errors.suggest(self.model, task.models)})"
        elif not self.model and not task.default_model:
            yield f"{task.name} has no network of its own: name one in model"
        yield from self.problems()
        if not 0 <= self.width < math.inf:
            yield "width must be a positive number, or 0 for the network's own"
        if self.folds < 0 or self.folds == 1:
            yield "folds must be at least 2, or 0 for no cross-validation"
        if self.fresh and not self.init:
            yield "fresh needs weights to start from: name them in init"
        yield from self.distillation_problems()
        yield from self.lora_problems()
        if self.lora and not self.init:
            yield "lora needs weights to start from: name them in init (it would leave random weights as they are)"
        if self.lora and self.freeze:
            yield "lora and freeze exclude each other: lora trains nothing but lora_targets and fresh"
        if self.teacher and self.compile and self.distil_methods != ("logits",):
            yield "features cannot be read from a compiled network: leave out compile, or distil logits"
        if self.teacher and self.folds:
            yield "folds and teacher exclude each other: leave out one of them"
        if not 0 <= self.dropout < 1:
            yield "dropout must be from 0 to below 1"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {split: f"{task.name}:{split}" for split in ("train", "val")} if task else {}

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises Diverged if the loss is not finite, InputError if `init` or the network does not fit."""
        assert ctx.task is not None
        model = self.model or ctx.task.default_model
        fit = partial(self._fit, model, ctx, inputs)
        if any(map(user_code.is_reference, (model, ctx.task.name))):
            trained = run_user_code(model, f"{model} cannot be trained", fit)
        else:
            trained = fit()
        notes = trained.specs.pop("notes", [])
        adapted = trained.adapted
        if adapted is not None:
            adapted.merge(out)
            notes = [*notes, adapted.note()]
        named.save(trained.network, model, trained.arguments, trained.specs, out)
        best_epoch = best(trained.history)["epoch"]
        details = {"model": model, "device": trained.device, "history": trained.history, "best_epoch": best_epoch}
        details |= {"cross_validation": trained.folds} if trained.folds else {}
        details |= {"context": trained.specs["context"]} if "context" in trained.specs else {}
        details |= {"lora": adapted.details()} if adapted is not None else {}
        return StepResult(details=details | ({"notes": notes} if notes else {}))

    def shaped(self, model: str) -> dict[str, float]:
        """Width and dropout as arguments of the network. Raises InputError if it has no argument of that name."""
        fields = {"width": self.width, "dropout": self.dropout}
        arguments = {name: value for name, value in fields.items() if value}
        known = inspect.signature(registry.load("models", model)).parameters if arguments else {}
        if lacking := [name for name in arguments if name not in known]:
            what = f"{model} takes no {lacking[0]}"
            raise InputError(what, "its arguments: " + ", ".join(known), f"leave it out, or add {lacking[0]} to it")
        return arguments

    def _fit(self, model: str, ctx: Context, inputs: Mapping[str, Artifact]) -> _Trained:
        """Train the network; it returns on the CPU, with its record."""
        assert ctx.task is not None
        check_class_folders(ctx.task.name)
        device, train, val = select_device(self.accelerator), ctx.sets["train"], ctx.sets["val"]
        start = partial(self._start, model, ctx, inputs)
        network, arguments, adapted = start()
        sides = specs(network.eval(), val.inputs)
        folds = self._cross_validated(start, ctx, device) if self.folds else {}
        if folds:  # cross-validation must not affect the training below
            network, _, adapted = start()
        say = session.current().say
        if say is not None and processes.current().rank == 0:
            for line in epoch_lines.start(network, model, self, ctx.task, train, val, device):
                say(line)
            if adapted is not None:
                layers = len(adapted.targets)
                say(f"  lora      {adapted.trained:,} of these are trained: rank {self.lora}, {layers} layers")
        if self.teacher:
            from edgekit.training import distillation

            teacher = teacher_of(self.teacher, inputs)
            fit = partial(distillation.fit, network, self, ctx, device=device, teacher=teacher, options=self)
        else:
            fit = partial(
                engine.fit,
                network,
                self,
                ctx.task,
                train,
                val,
                device=device,
                progress=ctx.progress,
                scratch=ctx.scratch,
            )
        history = fit() if adapted is None else adapted.train(fit, device)
        return _Trained(network.cpu().eval(), str(device), arguments, sides, history, folds, adapted)

    def _start(self, model: str, ctx: Context, inputs: Mapping[str, Artifact]) -> _Start:
        """The network before training."""
        import torch

        assert ctx.task is not None
        arguments = {**ctx.task.arguments(model), **self.shaped(model)}
        fresh, folder = self.fresh, inputs["init"].path if "init" in inputs else Path(self.init)
        is_pretrained = model == ctx.task.pretrained
        if is_pretrained:
            arguments["config"] = pretrained.configuration(folder)
        torch.manual_seed(self.seed)
        network = named.build(model, arguments)
        if is_pretrained and pretrained.is_foreign(folder):
            fresh = pretrained.load(network, folder, fresh, ctx.sets["val"].inputs)
        elif self.init:
            path = str(folder / networks.WEIGHTS) if "init" in inputs else self.init
            weights.load_weights(network, path, self.fresh)
        if not self.lora:
            return _Start(network, arguments, None)
        from edgekit.training.lora import Adapted

        return _Start(network, arguments, Adapted(network, self, fresh, ctx.sets["val"].inputs))

    def _cross_validated(self, start: Callable[[], _Start], ctx: Context, device: Any) -> Any:
        """Each fold's best epoch, their mean and spread; the networks are not kept."""
        assert ctx.task is not None
        results = []
        for index, (train, val) in enumerate(
            foldss.split(take(ctx.sets["train"], self.samples), self.folds, self.seed)
        ):
            scratch = ctx.scratch / f"fold-{index + 1}" if ctx.scratch else None
            titled = partial(_titled, ctx.progress, f"fold {index + 1} of {self.folds}, ")
            network, _, adapted = start()
            fit = partial(
                engine.fit, network, self, ctx.task, train, val, device=device, progress=titled, scratch=scratch
            )
            with session.part(f"fold-{index + 1}"):
                history = fit() if adapted is None else adapted.train(fit, device)
            results.append({key: value for key, value in best(history).items() if key not in ("kept", "lr")})
            ctx.log.info("fold %d of %d: %s", index + 1, self.folds, results[-1])
        return foldss.summary(results)


class _Start(NamedTuple):
    network: nn.Module
    arguments: dict[str, Any]
    adapted: Adapted | None


class _Trained(NamedTuple):
    network: nn.Module
    device: str
    arguments: dict[str, Any]
    specs: dict[str, Any]
    history: list[dict[str, Any]]
    folds: dict[str, Any]
    adapted: Adapted | None


def _titled(progress: Progress, title: str, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    return progress(items, title + what, total)
