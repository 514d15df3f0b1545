"""torch → torch[ranges]: quantization-aware training (QAT), and the ranges of its fake-quantized activations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edgekit.compression.calibration.feeds import fitting
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.step import ArtifactRef, Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.core.user_code import run_user_code
from edgekit.training.distillation_settings import teacher_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.compression.program import Program
    from edgekit.compression.qat import TrainingPlan

#: samples whose activations fix the ranges
RANGED = 256
#: without a validation split, one training sample in so many is held out for evaluation
HELD_OUT = 10
EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Qat(Step):
    """QAT (https://arxiv.org/abs/1712.05877): training with weights and activations fake-quantized, the float network
    as teacher.

    Starts from this network, rounded to nearest in ranges that `method` chooses, and keeps the best epoch on the
    validation split, the start included. `data`: a SET to train on, with labels or without; "" takes the task's
    training split. At most `samples` of it are used (0: all), `batch` at a time. `teacher`: another network with the
    same inputs and outputs as teacher, an artifact of the recipe or the model.json of one.
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
        train = {"train": self.data or f"{task.name}:train"} if task else {"train": self.data} if self.data else {}
        return train | ({"val": f"{task.name}:val"} if task else {})

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises Diverged, InputError if the samples do not fit, CannotConvert if no layer is trainable."""
        from edgekit.compression import program, qat, simulation
        from edgekit.compression.qat import RANGES

        parent = inputs["parent"]
        loaded = program.load(parent, ctx.log)
        if not loaded.layers():
            why = "no convolution or linear layer has weights of its own"
            raise CannotConvert(f"there is nothing to train in {parent.name}", why, "leave this step out")
        samples = _Samples(ctx.sets["train"], parent, self.samples)
        validation = _Samples(ctx.sets["val"], parent, 0) if "val" in ctx.sets else samples.hold_out()
        first = [inputs for inputs, _ in samples.batches(np.arange(min(RANGED, len(samples))), 1)]
        ranges = simulation.observed_ranges(loaded.module, first, self.method)
        evaluate = _evaluator(loaded, validation, self.batch, ctx.task)
        training_data, teacher = self._training(samples, parent, ctx), self._teacher(inputs, samples)
        history = qat.train(loaded, ranges, training_data, evaluate, ctx.progress, teacher)
        program.write(loaded, parent, out, ctx.log)
        qat.save_ranges(out / RANGES, _renamed(loaded, ranges, dataclasses.replace(parent, path=out), ctx))
        best = max(range(len(history)), key=lambda epoch: history[epoch])
        details = {key: parent.details[key] for key in ("example", "ranges") if key in parent.details}
        trained = {"history": [list(entry) for entry in history], "best_epoch": best}
        scheme = f"float32 on the int8 grid, trained with {self.method} ranges, epoch {best} of {self.epochs} kept"
        return StepResult(scheme, parent.identity_map(), {**details, "qat": trained})

    def _teacher(self, inputs: Mapping[str, Artifact], samples: _Samples) -> nn.Module | None:
        """Raises InputError if it does not accept the samples, or its outputs have other shapes."""
        if not self.teacher:
            return None
        from edgekit.compression.program import listed

        teacher = teacher_of(self.teacher, inputs).requires_grad_(False)
        feed, _ = next(samples.batches(np.arange(len(samples)), 2))
        expected = [tuple(spec.shape[1:]) for spec in samples.outputs]
        actual = [
            tuple(t.shape[1:])
            for t in run_user_code(self.teacher, "the teacher does not fit", lambda: listed(teacher(*feed)))
        ]
        if any(None not in a and a != b for a, b in zip(expected, actual, strict=False)) or len(expected) != len(
            actual
        ):
            why = f"its outputs have the shapes {actual}, the network's {expected}"
            raise InputError("the teacher does not fit the network", why, "choose a teacher of the same task")
        return teacher

    def _training(self, samples: _Samples, parent: Artifact, ctx: Context) -> TrainingPlan:
        from edgekit.compression.qat import TrainingPlan

        def batches(epoch: int) -> Iterator[Any]:
            order = np.random.default_rng([self.seed % 2**64, epoch]).permutation(len(samples))
            return samples.batches(order, self.batch, whole=True)

        size = samples.size(self.batch)
        count = max(len(samples) // size, 1)
        alone = ctx.task is not None and samples.labels is not None and len(parent.outputs) == 1
        loss = ctx.task.loss if alone and ctx.task is not None else None
        return TrainingPlan(batches, count, self.epochs, self.lr, loss, bool(ctx.task and ctx.task.classes))


class _Samples:
    """A set as inputs of the program, batch by batch; if the network fixes its batch, in batches of that size."""

    def __init__(self, data: SampleSet, model: Artifact, count: int) -> None:
        """The first `count` samples, 0 for all. Raises InputError if they do not fit."""
        self.name, self._model, self._arrays = data.name, model, fitting(data, model)
        self.labels, self.outputs = data.labels, model.outputs
        total = min(count, len(data)) if count else len(data)
        self._chosen = np.arange(total)
        if not total:
            raise InputError(f"the set {data.name} is empty", next="give at least one sample")

    def __len__(self) -> int:
        return len(self._chosen)

    def hold_out(self) -> _Samples:
        """Move every tenth sample to a set of its own; with too few samples both sets are the same."""
        other = object.__new__(_Samples)
        other.__dict__.update(self.__dict__)
        held = np.arange(len(self)) % HELD_OUT == HELD_OUT - 1
        if held.any():
            other._chosen, self._chosen = self._chosen[held], self._chosen[~held]
        return other

    def size(self, batch: int) -> int:
        """The samples per batch."""
        return next((spec.shape[0] for spec in self._model.inputs if spec.shape and spec.shape[0]), None) or batch

    def batches(self, order: Any, batch: int, whole: bool = False) -> Iterator[tuple[list[Tensor], Any]]:
        """Inputs by position, and labels; `whole`: drop a last batch that is not full, unless it is the only one."""
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


def _evaluator(
    loaded: Program, validation: _Samples, batch: int, task: Task | None
) -> Callable[..., tuple[float, ...]]:
    """Outputs → the key to compare epochs by: the task's score, if there are labels; then SQNR against float."""
    order = np.arange(len(validation))
    references: list[list[Tensor]] = [
        loaded.answers(inputs) for inputs, _ in validation.batches(order, EVALUATION_BATCH)
    ]
    names = [spec.name for spec in validation._model.outputs]

    def evaluate(answers: Callable[..., list[Tensor]]) -> tuple[float, ...]:
        from edgekit.compression.program import sqnr
        from edgekit.compression.simulation import joined

        batches = [answers(*inputs) for inputs, _ in validation.batches(order, EVALUATION_BATCH)]
        db = sqnr(joined(references), joined(batches))
        if task is None or validation.labels is None or validation.size(0):
            return (db,)
        outputs = {
            name: np.concatenate([np.asarray(value) for value in values])
            for name, values in zip(names, zip(*batches, strict=True), strict=True)
        }
        scores = task.score(outputs, validation.labels[validation._chosen])
        return scores.value if scores.higher_is_better else -scores.value, db

    return evaluate


def _renamed(loaded: Program, ranges: Mapping[str, Any], written: Artifact, ctx: Context) -> dict[str, Any]:
    """The ranges by the node names of the written program: its export renumbers the nodes."""
    from edgekit.compression import program, simulation

    before = simulation.quantized_nodes(loaded.module)
    after = simulation.quantized_nodes(program.load(written, ctx.log).module)
    if [simulation.operator(node) for node in before] != [simulation.operator(node) for node in after]:
        why = "its operators differ after it is written and loaded again"
        raise CannotConvert(f"the ranges of {written.name} cannot be kept", why, "leave this step out")
    return {b.name: ranges[a.name] for a, b in zip(before, after, strict=True) if a.name in ranges}
