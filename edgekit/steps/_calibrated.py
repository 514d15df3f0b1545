"""What the static int8 steps share: which samples they calibrate on, and these as the model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from edgekit.errors import InputError
from edgekit.types import Artifact, Context, SampleSet, Step, Task


@dataclass(frozen=True)
class CalibratedStep(Step):
    """`calibration`: a SET; "" takes the task's training split. At most `samples` samples of it are used."""

    keeps: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"

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
        """How many samples will be used."""
        return min(self.samples, len(ctx.sets["calibration"]))

    def feeds(self, model: Artifact, ctx: Context) -> Iterator[Mapping[str, Any]]:
        """Input name → array, one sample at a time, with progress; where the model fixes its batch, that many at once.

        Raises InputError where the samples do not fit.
        """
        data, count = ctx.sets["calibration"], self.count(ctx)
        arrays = fitting(data, model)
        batch = next((spec.shape[0] for spec in model.inputs if spec.shape and spec.shape[0]), 1)
        for first in ctx.progress(range(0, count, batch), "calibrating", -(-count // batch)):
            taken = np.arange(first, first + batch) % count  # the last batch is filled up from the front
            yield {
                spec.name: np.ascontiguousarray(arrays[spec.name][taken if spec.shape else first], dtype=spec.dtype)
                for spec in model.inputs
            }


def fitting(data: SampleSet, model: Artifact) -> Mapping[str, Any]:
    """The set's arrays under the model's input names. Raises InputError, naming what differs."""
    arrays = dict(data.inputs)
    if len(model.inputs) == 1 and len(arrays) == 1:
        arrays = {model.inputs[0].name: next(iter(arrays.values()))}
    names = {spec.name for spec in model.inputs}
    if set(arrays) != names:
        both = f"the model takes {', '.join(sorted(names))}; the set holds {', '.join(sorted(arrays))}"
        raise InputError(f"{data.name} does not fit {model.name}", both, "name the arrays as the model's inputs")
    for spec in model.inputs:
        given, wanted = arrays[spec.name].shape[1:], spec.shape[1:]
        if len(given) != len(wanted) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
            what = f"{spec.name!r} takes {list(wanted)} per sample; the set holds {list(given)}"
            raise InputError(f"{data.name} does not fit {model.name}", what, "reshape the samples")
    return arrays
