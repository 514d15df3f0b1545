"""The options of low-rank adaptation (LoRA). The train step has them as its own fields."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation (https://arxiv.org/abs/2106.09685), by the library peft: weights stay as they are, and a
    product of two matrices of rank `lora` is trained for each layer in `lora_targets`; 0: off.

    The product counts `lora_alpha` / `lora` times; 0: twice the rank. `lora_targets`: names of layers, or the ends of
    their paths; by default the queries, keys and values of attention, else all linear layers but the last. `dora` also
    trains the length of each output's weights (https://arxiv.org/abs/2402.09353). Parts in `fresh` are trained whole.
    """

    lora: int = 0
    lora_alpha: float = 0.0
    lora_targets: tuple[str, ...] = ()
    lora_dropout: float = 0.0
    dora: bool = False

    def lora_problems(self) -> Iterator[str]:
        if self.lora < 0:
            yield "lora must be a rank, or 0 for none"
        if not 0 <= self.lora_alpha < math.inf:
            yield "lora_alpha must be a positive number, or 0 for twice the rank"
        if not 0 <= self.lora_dropout < 1:
            yield "lora_dropout must be from 0 to below 1"
        if not self.lora and (self.lora_alpha or self.lora_targets or self.lora_dropout or self.dora):
            yield "lora_alpha, lora_targets, lora_dropout and dora need a rank: lora = 8"
