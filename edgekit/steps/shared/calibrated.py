"""Base classes of the steps that calibrate: their samples, the model's inputs from them, and the ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgekit import formats
from edgekit.compression import calibration
from edgekit.compression.calibration.feeds import batch_size, empty_states, fitting, is_whole, to_model_type
from edgekit.compression.calibration.ranges import Method
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError, suggest
from edgekit.core.step import ArtifactRef, Context, Step
from edgekit.core.task import Task
from edgekit.formats.ranges import Statistics

#: with fewer samples, other samples will often exceed the ranges
FEW = 32

#: the probabilities of more classes than these, if they are an output, stay in float
FEW_CLASSES = 64

#: the statistics' file in a `ranges` artifact, one of its samples, and the file of a pass that was cut short
RANGES, SAMPLE, PARTIAL = "ranges.npz", "sample.npz", "calibration.npz"


@dataclass(frozen=True)
class CalibratedStep(Step):
    """`calibration`: a SET; "" takes the task's training split. At most `samples` samples of it are used."""

    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"

    calibration: str = ""
    samples: int = 256

    def check(self, task: Task | None) -> Iterator[str]:
        if self.samples < 1:
            yield "samples must be at least 1"
        if task is None and not self.calibration:
            yield "there is no task to take calibration samples from: name a set in calibration"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        training = f"{task.name}:train" if task else ""
        return {"calibration": self.calibration or training} if self.calibration or training else {}

    def count(self, ctx: Context) -> int:
        """The number of samples used."""
        return min(self.samples, len(ctx.sets["calibration"]))

    def feeds(self, model: Artifact, ctx: Context) -> Iterator[Mapping[str, Any]]:
        """Input name → array, one sample at a time, with progress; if the model fixes its batch, that many at once. Of
        a model with states these are empty.

        Raises InputError where the samples do not fit.
        """
        data, count = ctx.sets["calibration"], self.count(ctx)
        arrays = fitting(data, model)
        batch = batch_size(arrays, model)
        for first in ctx.progress(range(0, count, batch), "calibrating", -(-count // batch)):
            indices = np.arange(first, first + batch) % count  # the last batch is filled up from the front
            yield {
                spec.name: to_model_type(array[first] if is_whole(array, spec) else array[indices], spec, data, indices)
                for spec, array in ((spec, arrays[spec.name]) for spec in model.inputs)
            } | empty_states(model, batch)

    def observed(self, model: Artifact, ctx: Context) -> Statistics:
        """One pass of the samples through the model; an interrupted pass is resumed.

        Raises InputError if the samples do not fit, the model cannot be run on one, or a value is not finite.
        """
        data, path = ctx.sets["calibration"], model_file(model)
        batch = batch_size(fitting(data, model), model)
        if (count := self.count(ctx)) < FEW:
            ctx.log.warning("only %d calibration samples: ranges may clip other samples; use %d or more", count, FEW)
        origin = f"{calibration.origin(model, path)} {data.sha256} {count}"
        partial = ctx.scratch / PARTIAL if ctx.scratch else None
        feeds = self.feeds(model, ctx)
        return calibration.observe(model.kind.format, path, feeds, ctx, batch=batch, origin=origin, partial=partial)


@dataclass(frozen=True)
class StaticInt8Step(CalibratedStep):
    """`ranges`: an artifact of the calibrate step for the same model, instead of a pass over a calibration set.

    `method`: how a range is chosen: the extremes (min-max calibration), all but 0.001 % at either end (percentile), or
    the least squared error of rounding and clipping (MSE calibration). `keep_float`: operators, by name, in float.
    `weights_only`: operators, by name, that compute in float from int8 weights: a runtime may have no int8 kernel for
    them, or a slower one.
    """

    ranges: ArtifactRef = ""
    method: Method = "min-max"
    keep_float: tuple[str, ...] = ()
    weights_only: tuple[str, ...] = ()

    def check(self, task: Task | None) -> Iterator[str]:
        if not self.ranges:
            yield from super().check(task)
        elif self.calibration:
            yield "give either ranges or a set in calibration"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {} if self.ranges else super().sets(task)

    def statistics(self, inputs: Mapping[str, Artifact], ctx: Context) -> Statistics:
        """From the ranges artifact (or file) that was named, else from a pass over the calibration set.

        Raises InputError if the ranges are those of another model; else see `observed`.
        """
        parent = inputs["parent"]
        if not self.ranges:
            return self.observed(parent, ctx)
        artifact = inputs.get("ranges")
        statistics = Statistics.load(artifact.path / RANGES if artifact else Path(self.ranges))
        if statistics.origin.partition(" ")[0] != calibration.origin(parent, model_file(parent)):
            what = f"the ranges {self.ranges} were not taken from {parent.name}"
            raise InputError(what, "the model differs", f"calibrate {parent.name}, and name the artifact of that")
        return statistics

    def kept(self, names: Iterable[str], model: Artifact) -> tuple[str, ...]:
        """The operators that compute in float, checked against the model's. Raises InputError with near names."""
        known = tuple(dict.fromkeys(name for name in names if name))
        for name in (*self.keep_float, *self.weights_only):
            if name not in known:
                raise InputError(f"{model.name} has no operator {name!r} to keep in float", next=suggest(name, known))
        return (*self.keep_float, *self.weights_only)

    def described(self, statistics: Statistics) -> str:
        """The calibration, in words for the scheme."""
        count = len({*self.keep_float, *self.weights_only})
        kept = f", {count} operator{'s' * (count > 1)} in float" if count else ""
        return f"{self.method} over {statistics.samples} samples{kept}"


def model_file(model: Artifact) -> Path:
    """The file of an artifact that a runtime loads."""
    return formats.model_file(model.kind, model.path)
