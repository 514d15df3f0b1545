"""torch → torch[ranges]: quantization-aware training, and the ranges that its activations were rounded in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edgekit import training
from edgekit.compression.calibration.feeds import fitting
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.step import ArtifactRef, Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.core.user_code import run_user_code
from edgekit.steps.equalize import sources
from edgekit.training.distillation import teacher_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.compression.program import Program
    from edgekit.compression.qat import TrainingPlan

#: samples whose activations fix the ranges
RANGED = 256
#: without a validation split, one training sample in so many is held out to judge by
HELD_OUT = 10
EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Qat(Step):
    """Learning with weights and activations rounded (https://arxiv.org/abs/1712.05877), the float net its teacher.

    Starts from this network rounded to nearest in ranges that `method` chooses, and keeps the best epoch on the
    validation split, the start included. `data`: a SET to learn from, with labels or without; "" takes the task's
    training split. At most `samples` of it are used (0: all), `batch` at a time. `teacher`: another network of the same
    inputs and outputs to learn from, an artifact of the recipe or the model.json of one.
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch", frozenset({"ranges"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    data: str = ""
    epochs: int = 1
    lr: float = 0.0001
    batch: int = 64
    samples: int = 0
    method: Literal["min-max", "percentile", "mse"] = "mse"
    seed: int = 0
    teacher: ArtifactRef = ""

    def check(self, task: Task | None) -> Iterator[str]:
        if task is None and not self.data:
            yield "there is no task to take training samples from: name a set in data"
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        if self.samples < 0:
            yield "samples must be 0 (all) or more"
        if not 0 < self.lr < math.inf:
            yield "lr must be a positive number"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        found = {"train": self.data or f"{task.name}:train"} if task else {"train": self.data} if self.data else {}
        return found | ({"val": f"{task.name}:val"} if task else {})

    def sources(self) -> tuple[Path, ...]:
        named = sources("program", "weights", "simulation", "histograms", "ranges", "qat")
        return (*named, Path(training.__file__).parent / "taught.py")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises Diverged, InputError where the samples do not fit, CannotConvert where nothing can learn."""
        from edgekit.compression import program, qat, simulation
        from edgekit.compression.qat import RANGES

        parent = inputs["parent"]
        loaded = program.load(parent, ctx.log)
        if not loaded.layers():
            why = "no convolution or linear layer has weights of its own"
            raise CannotConvert(f"there is nothing to train in {parent.name}", why, "leave this step out")
        lessons = _Samples(ctx.sets["train"], parent, self.samples)
        exam = _Samples(ctx.sets["val"], parent, 0) if "val" in ctx.sets else lessons.hold_out()
        first = [inputs for inputs, _ in lessons.batches(np.arange(min(RANGED, len(lessons))), 1)]
        found = simulation.observed_ranges(loaded.module, first, self.method)
        judge = _judge(loaded, exam, self.batch, ctx.task)
        lesson, teacher = self._lesson(lessons, parent, ctx), self._teacher(inputs, lessons)
        history = qat.train(loaded, found, lesson, judge, ctx.progress, teacher)
        program.write(loaded, parent, out, ctx.log)
        qat.save_ranges(out / RANGES, _renamed(loaded, found, dataclasses.replace(parent, path=out), ctx))
        best = max(range(len(history)), key=lambda epoch: history[epoch])
        details = {key: parent.details[key] for key in ("example", "ranges") if key in parent.details}
        names = {spec.name: spec.name for spec in (*parent.inputs, *parent.outputs)}
        trained = {"history": [list(entry) for entry in history], "best_epoch": best}
        scheme = f"float32 on the int8 grid, trained with {self.method} ranges, epoch {best} of {self.epochs} kept"
        return StepResult(scheme, names, {**details, "qat": trained})

    def _teacher(self, inputs: Mapping[str, Artifact], lessons: _Samples) -> nn.Module | None:
        """Raises InputError where it does not take the samples, or answers in other shapes."""
        if not self.teacher:
            return None
        from edgekit.compression.program import listed

        found = teacher_of(self.teacher, inputs).requires_grad_(False)
        feed, _ = next(lessons.batches(np.arange(len(lessons)), 2))
        wanted = [tuple(spec.shape[1:]) for spec in lessons.outputs]
        given = [
            tuple(t.shape[1:])
            for t in run_user_code(self.teacher, "the teacher does not fit", lambda: listed(found(*feed)))
        ]
        if any(None not in a and a != b for a, b in zip(wanted, given, strict=False)) or len(wanted) != len(given):
            why = f"it answers in the shapes {given}, the network in {wanted}"
            raise InputError("the teacher does not fit the network", why, "take a teacher of the same task")
        return found

    def _lesson(self, lessons: _Samples, parent: Artifact, ctx: Context) -> TrainingPlan:
        from edgekit.compression.qat import TrainingPlan

        def batches(epoch: int) -> Iterator[Any]:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(lessons))
            return lessons.batches(order, self.batch, whole=True)

        size = lessons.size(self.batch)
        count = max(len(lessons) // size, 1)
        alone = ctx.task is not None and lessons.labels is not None and len(parent.outputs) == 1
        loss = ctx.task.loss if alone and ctx.task is not None else None
        return TrainingPlan(batches, count, self.epochs, self.lr, loss, bool(ctx.task and ctx.task.classes))


class _Samples:
    """A set as the program takes it, batch by batch; a batch that the network fixes stays that large."""

    def __init__(self, data: SampleSet, model: Artifact, count: int) -> None:
        """The first `count` samples, 0 for all. Raises InputError where they do not fit."""
        self.name, self._model, self._arrays = data.name, model, fitting(data, model)
        self.labels, self.outputs = data.labels, model.outputs
        total = min(count, len(data)) if count else len(data)
        self._chosen = np.arange(total)
        if not total:
            raise InputError(f"the set {data.name} is empty", next="give at least one sample")

    def __len__(self) -> int:
        return len(self._chosen)

    def hold_out(self) -> _Samples:
        """Every tenth sample, taken from this set into one of its own; where there are too few, the same ones."""
        other = object.__new__(_Samples)
        other.__dict__.update(self.__dict__)
        held = np.arange(len(self)) % HELD_OUT == HELD_OUT - 1
        if held.any():
            other._chosen, self._chosen = self._chosen[held], self._chosen[~held]
        return other

    def size(self, batch: int) -> int:
        """How many samples go in at once."""
        return next((spec.shape[0] for spec in self._model.inputs if spec.shape and spec.shape[0]), None) or batch

    def batches(self, order: Any, batch: int, whole: bool = False) -> Iterator[tuple[list[Tensor], Any]]:
        """Inputs by position, and labels; `whole`: the last is left out where it is not full, unless it is alone."""
        import torch

        size = self.size(batch)
        fixed = size if self.size(0) else 0
        for start in range(0, len(order), size):
            taken = self._chosen[order[start : start + size]]
            if whole and start and len(taken) < size:
                return
            if fixed:
                taken = np.resize(taken, fixed)
            inputs = [
                torch.from_numpy(np.ascontiguousarray(self._arrays[spec.name][taken], dtype=spec.dtype))
                for spec in self._model.inputs
            ]
            labels = None if self.labels is None else self.labels[taken]
            if labels is not None:
                labels = torch.from_numpy(labels.astype(np.int64 if labels.dtype.kind in "iub" else np.float32))
            yield inputs, labels


def _judge(loaded: Program, exam: _Samples, batch: int, task: Task | None) -> Callable[..., tuple[float, ...]]:
    """What is better: a higher score of the task, where there are labels; then outputs nearer to the float ones."""
    order = np.arange(len(exam))
    references: list[list[Tensor]] = [loaded.answers(inputs) for inputs, _ in exam.batches(order, EVALUATION_BATCH)]
    names = [spec.name for spec in exam._model.outputs]

    def judge(answers: Callable[..., list[Tensor]]) -> tuple[float, ...]:
        from edgekit.compression.program import sqnr
        from edgekit.compression.simulation import joined

        found = [answers(*inputs) for inputs, _ in exam.batches(order, EVALUATION_BATCH)]
        db = sqnr(joined(references), joined(found))
        if task is None or exam.labels is None or exam.size(0):
            return (db,)
        outputs = {
            name: np.concatenate([np.asarray(value) for value in values])
            for name, values in zip(names, zip(*found, strict=True), strict=True)
        }
        scores = task.score(outputs, exam.labels[exam._chosen])
        return scores.value if scores.higher_is_better else -scores.value, db

    return judge


def _renamed(loaded: Program, found: Mapping[str, Any], written: Artifact, ctx: Context) -> dict[str, Any]:
    """The ranges under the names that the written program's own nodes have: exporting it numbers them anew."""
    from edgekit.compression import program, simulation

    before = simulation.quantized_nodes(loaded.module)
    after = simulation.quantized_nodes(program.load(written, ctx.log).module)
    if [simulation.operator(node) for node in before] != [simulation.operator(node) for node in after]:
        why = "written and loaded again, its operators are others"
        raise CannotConvert(f"the ranges of {written.name} cannot be kept", why, "leave this step out")
    return {b.name: found[a.name] for a, b in zip(before, after, strict=True) if a.name in found}
