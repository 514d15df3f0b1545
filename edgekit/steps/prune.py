"""torch → torch: structured pruning of channels and attention heads, then fine-tuning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from edgekit import networks, sets
from edgekit.compression import pruning_goals
from edgekit.compression.pruning_goals import SPEEDUPS_FILE, SearchResult
from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Plan, Target
from edgekit.core.task import Task
from edgekit.core.temporary import temporary_folder
from edgekit.measure import targets
from edgekit.measure.execute import execute_all
from edgekit.networks.named import save
from edgekit.networks.tracing import example
from edgekit.networks.weights import read_weights
from edgekit.sets import take
from edgekit.steps.shared.unstored import unstored
from edgekit.training.calls import call, select_device
from edgekit.training.data import Samples
from edgekit.training.distillation_settings import DistillationSettings, teacher_of
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.compression.channels import Cut

#: samples whose gradients the Taylor criterion sums, at most so many at once
TAYLOR_SAMPLES, TAYLOR_BATCH = 512, 64
#: measured by tests/benchmarks/prune.py --zeros, see docs/pruning.md
UNSTRUCTURED = (
    "zeros without structure make no runtime here faster (onnxruntime, litert and openvino multiply by them all the"
    " same): prune channels"
)
#: how a candidate's latency is measured while a ratio is searched
LOOK = Plan(processes=7, seconds=0.1)
#: a note names no more layers than this
MOST_NAMES = 5


@dataclass(frozen=True)
class Prune(DistillationSettings, Step):
    """Structured pruning, by Torch-Pruning's dependency graph (https://arxiv.org/abs/2301.12900), then fine-tuning.

    One of: `ratio`, the share of channels to prune, `macs` or `parameters`, the share that may stay, or `speedup`, how
    many times faster it must be on `target` in each of `runtimes` (by default all that the target has), measured.
    `importance`: magnitude, taylor (https://arxiv.org/abs/1906.10771), or bn-scale (https://arxiv.org/abs/1708.06519)
    after `sparse_epochs` with an L1 `penalty` on BatchNorm's scales. `scope`: the ratio is each layer's,
    or that of all together. Channels stay multiples of `round_to`. `structure`: channels; none, single
    weights set to zero, is refused.

    Pruned and fine-tuned `rounds` times, each for `epochs` (0: not at all), with the train step's options, from the
    labels alone; with `distil` or `teacher` also from a teacher, by default the unpruned network.
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "prune"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors", "torch-pruning")

    ratio: float = 0.0
    macs: float = 0.0
    parameters: float = 0.0
    speedup: float = 0.0
    target: str = ""
    runtimes: tuple[str, ...] = ()
    importance: Literal["magnitude", "taylor", "bn-scale"] = "magnitude"
    scope: Literal["layer", "global"] = "layer"
    structure: Literal["channels", "none"] = "channels"
    round_to: int = 8
    rounds: int = 1
    epochs: int = 4
    lr: float = 0.002
    batch: int = 128
    weight_decay: float = 0.01
    patience: int = 5
    samples: int = 0
    seed: int = 0
    sparse_epochs: int = 0
    penalty: float = 0.001
    #: none: an undertrained parent is a teacher that limits the pruned network (docs/pruning.md)
    distil: str = ""
    alpha: float = 0.3
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def check(self, task: Task | None) -> Iterator[str]:
        yield from pruning_goals.problems(self.ratio, self._goals())
        if self.structure == "none":
            yield UNSTRUCTURED
        learns = self.epochs or self.sparse_epochs or self.importance == "taylor"
        if learns and task is None:
            yield "there is no task to train on: epochs = 0 only cuts (and importance must not be taylor)"
        for name in ("round_to", "rounds", "batch", "patience"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        for name in ("epochs", "sparse_epochs", "samples"):
            if getattr(self, name) < 0:
                yield f"{name} must be 0 or more"
        if not 0 < self.lr < math.inf:
            yield "lr must be a positive number"
        if self.sparse_epochs and self.importance != "bn-scale":
            yield "sparse_epochs are for importance = bn-scale"
        if self.penalty <= 0:
            yield "penalty must be a positive number"
        if self.distil_methods:
            yield from self.distillation_problems()

    @property
    def distil_methods(self) -> tuple[str, ...]:
        return super().distil_methods or (("logits",) if self.teacher else ())

    def resolve(self, target: Target) -> Self:
        return replace(self, target=self.target or target.name) if self.speedup else self

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {split: f"{task.name}:{split}" for split in ("train", "val")} if task else {}

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if nothing can be pruned or the goal is out of reach, Diverged, InputError."""
        import torch

        from edgekit.compression import channels

        parent = inputs["parent"]
        reference = networks.reference(parent.path)
        if reference.get("loader", "named") != "named":
            why = f"it was imported as a {reference['loader']} model, so its layers cannot be changed"
            raise CannotConvert(f"{parent.name} cannot be pruned", why, "import the code that builds it: net.py:make")
        torch.manual_seed(self.seed)
        network, feed = networks.load(parent.path), example(parent).inputs
        teacher = self._teacher(inputs, network)
        history: list[dict[str, Any]] = []
        if self.sparse_epochs:
            history += self._fit(network, None, self.sparse_epochs, "sparse", ctx, _sparsity_penalty(self.penalty))
        with temporary_folder() as folder:
            goal, disturbed = self._ratio_for_goal(parent, network, feed, ctx, folder)
        pruned = network
        for number in range(1, self.rounds + 1):
            before, after = (1 - goal.ratio * n / self.rounds for n in (number - 1, number))
            result = channels.cut(pruned, feed, self._cut(1 - after / before), self._learn(ctx))
            pruned = result.network
            if self.epochs:
                history += self._fit(pruned, teacher, self.epochs, f"round-{number}", ctx, None)
        pruned.eval()
        _write(network, pruned, parent, out)
        shares = {
            "parameters": channels.size(pruned) / channels.size(network),
            "macs": channels.macs(pruned, feed) / max(channels.macs(network, feed), 1),
        }
        details = {"ratio": goal.ratio, **shares, "whole": list(result.whole), "history": history}
        if goal.speedups:
            details["speedups"] = dict(goal.speedups)
            details["disturbed"] = disturbed
        kept = {key: parent.details[key] for key in ("example",) if key in parent.details}
        scheme = f"float32, {shares['macs']:.0%} of the MACs and {shares['parameters']:.0%} of the parameters left"
        if result.whole:
            kept["notes"] = [_whole_note(result.whole)]
        return StepResult(scheme, parent.identity_map(), {**kept, "pruned": details})

    def _ratio_for_goal(
        self, parent: Artifact, network: nn.Module, feed: tuple[Tensor, ...], ctx: Context, folder: Path
    ) -> tuple[SearchResult, str]:
        """The ratio that reaches the goal, and what disturbed its measurement."""
        if self.ratio:
            return SearchResult(self.ratio), ""
        if self.speedup:
            search = _TimedRatioSearch(self, parent, network, feed, ctx, folder)
            goal = search.by_speed()
            return goal, search.disturbed.get(goal.ratio, "")
        return _RatioSearch(self, parent, network, feed, ctx, folder).by_count(), ""

    def _goals(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("macs", "parameters", "speedup")}

    def _cut(self, ratio: float) -> Cut:
        from edgekit.compression.channels import Cut

        return Cut(ratio, self.importance, self.scope, self.round_to)

    def _teacher(self, inputs: Mapping[str, Artifact], network: nn.Module) -> nn.Module | None:
        if not self.distil_methods or not self.epochs:
            return None
        return teacher_of(self.teacher, inputs) if self.teacher else copy.deepcopy(network)

    def _fit(
        self,
        network: nn.Module,
        teacher: nn.Module | None,
        epochs: int,
        name: str,
        ctx: Context,
        after_backward: Callable[[nn.Module], None] | None,
    ) -> list[dict[str, Any]]:
        """Train in place, with distillation if there is a teacher; the best epoch on validation data is kept.

        `name` is the name of this training's checkpoint folder.
        """
        from edgekit.training import distillation

        shared = {name: getattr(self, name) for name in ("lr", "batch", "weight_decay", "patience", "samples", "seed")}
        history = distillation.fit(
            network,
            Settings(epochs=epochs, **shared),
            replace(ctx, scratch=ctx.scratch / name if ctx.scratch else None),
            device=select_device(self.accelerator),
            teacher=teacher,
            options=self,
            after_backward=after_backward,
        )
        network.cpu()  # the next cut traces it there
        return history

    def _learn(self, ctx: Context) -> Callable[[nn.Module], None] | None:
        """A function that computes the gradients of the task's loss in a network."""
        if self.importance != "taylor":
            return None
        import torch

        assert ctx.task is not None
        task, samples = ctx.task, Samples(take(ctx.sets["train"], TAYLOR_SAMPLES), torch.device("cpu"))

        def learn(network: nn.Module) -> None:
            network.eval()
            for inputs, labels in samples.batches(torch.arange(len(samples)).split(TAYLOR_BATCH)):  # type: ignore[no-untyped-call]
                task.loss(call(network, inputs), labels).backward()

        return learn


@dataclass
class _RatioSearch:
    """Cuts without training, to find the ratio that reaches the goal."""

    step: Prune
    parent: Artifact
    network: nn.Module
    feed: tuple[Tensor, ...]
    ctx: Context
    folder: Path

    def by_count(self) -> SearchResult:
        """The ratio that leaves the given share of MACs or parameters."""
        from edgekit.compression import channels

        step = self.step
        if step.macs:
            whole = channels.macs(self.network, self.feed)
            return pruning_goals.by_count(step.macs, lambda r: channels.macs(self._cut(r), self.feed), whole, "MACs")
        whole = channels.size(self.network)
        return pruning_goals.by_count(step.parameters, lambda r: channels.size(self._cut(r)), whole, "parameters")

    def _cut(self, ratio: float) -> nn.Module:
        from edgekit.compression import channels

        return channels.cut(self.network, self.feed, self.step._cut(ratio), self.step._learn(self.ctx)).network


@dataclass
class _TimedRatioSearch(_RatioSearch):
    """Cuts that are exported and measured."""

    exported: dict[Path, Artifact] = field(default_factory=dict)
    disturbed: dict[float, str] = field(default_factory=dict)

    def by_speed(self) -> SearchResult:
        """The ratio that reaches the speedup."""
        kept = self.ctx.scratch / SPEEDUPS_FILE if self.ctx.scratch else None
        return pruning_goals.by_speed(self.step.speedup, self._speedups, kept)

    def _speedups(self, ratio: float) -> Mapping[str, float]:
        """Runtime → how many times faster a network of this ratio is, measured in one session with the unpruned one."""
        target = targets.load(self.step.target or "host")
        pruned = self.folder / f"{ratio:.2f}"
        pruned.mkdir(exist_ok=True)
        _write(self.network, self._cut(ratio), self.parent, pruned)
        smaller = self._exports(target, replace(self.parent, path=pruned), pruned)
        larger = self._exports(target, self.parent, self.folder / "whole")
        data = take(self.ctx.sets["val"], LOOK.min_runs) if "val" in self.ctx.sets else self._random_inputs()
        pairs = [(models[name], name) for models in (larger, smaller) for name in larger]
        runs = execute_all(pairs, target, data, LOOK, outputs=False, progress=self.ctx.progress)
        if disturbances := [reason for run in runs for reason in run.invalid]:
            self.disturbed[ratio] = disturbances[0]
            self.ctx.log.warning("ratio %.2f: %s", ratio, disturbances[0])
        times = [statistics.latency(run.processes, LOOK.threads, LOOK.batch, run.clock) for run in runs]
        speedups = {
            name: statistics.latency_ratio(a, b, paired=True).value
            for name, a, b in zip(larger, times, times[len(larger) :], strict=False)
        }
        self.ctx.log.info("ratio %.2f: %s times faster", ratio, speedups)
        return speedups

    def _exports(self, target: Target, model: Artifact, folder: Path) -> dict[str, Artifact]:
        """Runtime → the network in its format. Raises InputError if the target has none of the runtimes."""
        exports: dict[str, Artifact] = {}
        for name in self.step.runtimes or target.runtimes:
            format = next(iter(targets.exported_formats(name)), None) if name in target.runtimes else None
            if format is None:
                if self.step.runtimes:
                    what = f"{target.name} has no runtime {name!r} to measure in"
                    raise InputError(what, f"it has {', '.join(target.runtimes)}", "name one of these in runtimes")
                continue
            place = folder / format
            if place not in self.exported:
                place.mkdir(parents=True, exist_ok=True)
                exporter = registry.load("steps", f"to_{format}")()
                exported = unstored(exporter, {"parent": model}, place, self.ctx)
                self.exported[place] = replace(exported, id=f"{model.id}-{place.parent.name}")
            exports[name] = self.exported[place]
        if not exports:
            raise InputError(
                f"{target.name} has no runtime to measure a speedup in", next="set macs instead: macs = 0.5"
            )
        return exports

    def _random_inputs(self) -> SampleSet:

        return sets.random_inputs(self.parent, self.parent)


def _write(original: nn.Module, pruned: nn.Module, parent: Artifact, out: Path) -> None:
    """Write the pruned network for `networks.load`, and check that it loads with the same outputs.

    Raises CannotConvert if its outputs differ after loading.
    """
    import torch

    from edgekit.networks import widths
    from edgekit.networks.interface import Positional
    from edgekit.networks.outputs import named_outputs

    reference = dict(networks.reference(parent.path))
    inner, before = (n.network if isinstance(n, Positional) else n for n in (pruned, original))
    changed = widths.merge(reference.get("widths", {}), widths.changed_widths(before, inner))
    specs: dict[str, Any] = {
        key: reference[key]
        for key in ("inputs", "outputs", "axes", "example", "call", "kept", "float32")
        if key in reference
    }
    example_inputs: dict[str, Tensor] = {}
    if (examples := parent.path / networks.EXAMPLE).is_file():
        (out / networks.EXAMPLE).write_bytes(examples.read_bytes())
        example_inputs = read_weights(examples)
    save(inner, reference["model"], reference["arguments"], {**specs, "widths": changed}, out, example_inputs)
    feed = example(replace(parent, path=out)).inputs
    with torch.no_grad():
        answers = [list(named_outputs(n(*feed)).values()) for n in (pruned.eval(), networks.load(out))]
    if not all(torch.equal(a, b) for a, b in zip(*answers, strict=True)):
        why = "rebuilt from its widths, it has other outputs"
        raise CannotConvert(f"{parent.name} cannot be pruned", why, "its builder must give the same network each time")


def _whole_note(layers: Sequence[str]) -> str:
    names = [name.removeprefix("network.") for name in layers]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    they = "keeps all its channels" if len(names) == 1 else "keep all their channels"
    why = "the outputs, a split, a reshape or recurrence fix how many there are"
    return f"{', '.join(names[:MOST_NAMES])}{more} {they}: {why}"


def _sparsity_penalty(penalty: float) -> Callable[[nn.Module], None]:
    """A function that adds the gradient of an L1 penalty on BatchNorm's scales (https://arxiv.org/abs/1708.06519)."""

    from edgekit.compression.channels import NORMS

    def add(network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, NORMS) and module.weight is not None and module.weight.grad is not None:
                module.weight.grad.add_(penalty * module.weight.detach().sign())

    return add
