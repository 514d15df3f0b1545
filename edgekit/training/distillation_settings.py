"""The options of knowledge distillation. The train and prune steps have them as their own fields."""

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
class DistillationSettings:
    """`teacher`: an artifact of the recipe, or the model.json of a torch artifact.

    `distil`: comma-separated methods of logits (https://arxiv.org/abs/1503.02531), features
    (https://arxiv.org/abs/1412.6550) and attention (https://arxiv.org/abs/1612.03928). `temperature` softens the
    logits of both networks; `alpha` weighs the logits term against the label loss (1 - `alpha`); `weight` is the
    weight of the feature and attention terms.
    """

    teacher: ArtifactRef = ""
    distil: str = "logits"
    temperature: float = 2.0
    alpha: float = 0.7
    weight: float = 1.0

    @property
    def distil_methods(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.distil.split(",") if name.strip())

    def distillation_problems(self) -> Iterator[str]:
        if unknown := [name for name in self.distil_methods if name not in METHODS]:
            yield f"there is no distillation method {unknown[0]!r}: choose from {', '.join(METHODS)}"
        if not self.distil_methods:
            yield f"name a distillation method: {', '.join(METHODS)}"
        if not 0 < self.temperature < math.inf:
            yield "temperature must be a positive number"
        if not 0 <= self.alpha <= 1:
            yield "alpha must be from 0 to 1"
        if not 0 <= self.weight < math.inf:
            yield "weight must be 0 or more"


def teacher_of(teacher: str, inputs: Mapping[str, Artifact]) -> nn.Module:
    """The network that a step's field `teacher` names. Raises InputError if it is not a torch artifact."""
    if "teacher" not in inputs:
        return networks.load(Path(teacher).parent)
    artifact = inputs["teacher"]
    if artifact.kind.format != "torch":
        raise InputError(
            f"{artifact.name} is {artifact.kind}", "a teacher must be a torch artifact", "name a torch artifact"
        )
    return networks.load(artifact.path)
