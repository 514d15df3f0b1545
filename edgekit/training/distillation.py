"""How a network learns from a teacher; the train step, and that of pruning, have these options as their own fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import networks
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.step import ArtifactRef

if TYPE_CHECKING:
    from torch import nn

METHODS = ("logits", "features", "attention")


@dataclass(frozen=True)
class Distillation:
    """How to learn from a teacher: an artifact of the recipe, or the model.json of a torch artifact.

    `distil`: of logits (https://arxiv.org/abs/1503.02531), features (https://arxiv.org/abs/1412.6550) and attention
    (https://arxiv.org/abs/1612.03928), with commas. `temperature` softens both sides' logits; `alpha` is the share of
    the teacher's logits in the loss, the labels have the rest; `weight` is that of features and attention maps.
    """

    teacher: ArtifactRef = ""
    distil: str = "logits"
    temperature: float = 2.0
    alpha: float = 0.7
    weight: float = 1.0

    @property
    def chosen(self) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.distil.split(",") if word.strip())

    def teaching_problems(self) -> Iterator[str]:
        if unknown := [name for name in self.chosen if name not in METHODS]:
            yield f"there is no way {unknown[0]!r} to learn from a teacher: it is of {', '.join(METHODS)}"
        if not self.chosen:
            yield f"name a way to learn from the teacher: {', '.join(METHODS)}"
        if not 0 < self.temperature < math.inf:
            yield "temperature must be a positive number"
        if not 0 <= self.alpha <= 1:
            yield "alpha must lie between 0 and 1"
        if not 0 <= self.weight < math.inf:
            yield "weight must be 0 or more"


def teacher_of(teacher: str, inputs: Mapping[str, Artifact]) -> nn.Module:
    """The network that a step's field `teacher` names. Raises InputError where it is no torch artifact."""
    if "teacher" not in inputs:
        return networks.load(Path(teacher).parent)
    artifact = inputs["teacher"]
    if artifact.kind.format != "torch":
        raise InputError(f"{artifact.name} is {artifact.kind}", "a teacher is a torch network", "name that one")
    return networks.load(artifact.path)
