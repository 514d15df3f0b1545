"""How a network learns from a teacher; the train step, and that of pruning, have these options as their own fields."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

METHODS = ("logits", "features", "attention")


@dataclass(frozen=True)
class Distillation:
    """How to learn from a teacher.

    `methods`: of logits (https://arxiv.org/abs/1503.02531), features (https://arxiv.org/abs/1412.6550) and attention
    (https://arxiv.org/abs/1612.03928), with commas. `temperature` softens both sides' logits; `alpha` is the share of
    the teacher's logits in the loss, the labels have the rest; `weight` is that of features and attention maps.
    """

    methods: str = "logits"
    temperature: float = 2.0
    alpha: float = 0.7
    weight: float = 1.0

    @property
    def chosen(self) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.methods.split(",") if word.strip())

    def problems(self) -> Iterator[str]:
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
