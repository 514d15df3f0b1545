"""nothing → torch: as `train`, but on another task: a pretrained backbone that `train` fine-tunes (`init`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import tasks
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.step import Context, StepResult, TaskRef
from edgekit.core.task import Task
from edgekit.steps.train import Train


@dataclass(frozen=True)
class Pretrain(Train):
    """`on`: the task to train on instead of the recipe's. Its accuracy is measured on the recipe's task, before
    fine-tuning: about chance.
    """

    on: TaskRef = ""

    def check(self, task: Task | None) -> Iterator[str]:
        try:
            yield from super().check(tasks.load(self.on) if self.on else None)
        except InputError as error:
            yield f"on: {error}"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return super().sets(tasks.load(self.on)) if self.on else {}

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises what training does."""
        return super().apply(inputs, out, replace(ctx, task=tasks.load(self.on)))
