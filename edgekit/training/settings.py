"""The training options that affect the resulting weights. The train step has them as its own fields."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Settings:
    """By default AdamW with a one-cycle learning rate. The weights of the best validation epoch are kept.

    `lr` is the highest learning rate, `batch` the samples of a step over all processes; `accumulate` batches make
    one optimizer step. `samples`: use only the first so many training samples, 0 for all. `monitor`: the validation
    value the best epoch is chosen by; training stops early after `patience` epochs without a better one. `warmup`:
    epochs of linear warm-up to `lr`; one-cycle has its own. `decay` = "weights" excludes biases and norms from
    weight decay. `loss` replaces the task's own. `augment` = "auto" is the task's default. `clip` bounds the
    gradient's norm, `ema` averages the weights with this decay; 0 turns either off. `freeze` names parts (by prefix)
    whose weights are fixed until the epoch `unfreeze`, or throughout (0). `lr_decay` multiplies the rate of each
    stage further from the output by this factor; `lr_factors` are entries such as "features=0.1".
    """

    epochs: int = 10
    lr: float = 0.003
    batch: int = 128
    accumulate: int = 1
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    decay: Literal["all", "weights"] = "all"
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle"
    warmup: float = 0.0
    patience: int = 5
    monitor: Literal["loss", "metric"] = "loss"
    seed: int = 0
    samples: int = 0
    loss: Literal["", "cross-entropy", "mse", "bce"] = ""
    label_smoothing: float = 0.0
    augment: Literal["auto", "on", "off"] = "auto"
    clip: float = 0.0
    ema: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    freeze: tuple[str, ...] = ()
    unfreeze: int = 0
    lr_decay: float = 1.0
    lr_factors: tuple[str, ...] = ()

    def problems(self) -> Iterator[str]:
        """What is invalid, one sentence each."""
        for name in ("epochs", "batch", "patience", "accumulate"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        if not 0 < self.lr < math.inf:
            yield "lr must be a positive number"
        for name in ("weight_decay", "warmup", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} must be 0 or a positive number"
        for name in ("momentum", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} must be from 0 to below 1"
        for name in ("samples", "unfreeze"):
            if getattr(self, name) < 0:
                yield f"{name} must not be negative (0: {'all' if name == 'samples' else 'never'})"
        yield from self._conflicts()

    def _conflicts(self) -> Iterator[str]:
        """Options that contradict each other."""
        if self.warmup and self.schedule == "one-cycle":
            yield "the one-cycle schedule has its own warm-up: leave out warmup, or choose another schedule"
        if self.warmup >= self.epochs > 0:
            yield "warmup must be shorter than the training"
        if self.label_smoothing and self.loss in ("mse", "bce"):
            yield f"label_smoothing works with cross-entropy only, not with {self.loss}"
        if self.unfreeze and not self.freeze:
            yield "unfreeze needs a part in freeze"
        if not 0 < self.lr_decay <= 1:
            yield "lr_decay must be above 0 and at most 1 (1: the same rate everywhere)"
        for text in self.lr_factors:
            try:
                parse_lr_factor(text)
            except ValueError:
                yield f"lr_factors holds {text!r}, which is not PREFIX=NUMBER"


def parse_lr_factor(text: str) -> tuple[str, float]:
    """Prefix and factor of, for example, "features=0.1". Raises ValueError."""
    prefix, _, number = text.rpartition("=")
    factor = float(number)
    if not prefix or not 0 < factor < math.inf:
        raise ValueError(text)
    return prefix, factor


def as_json(settings: Settings) -> dict[str, Any]:
    """The options as JSON values, without the fields of a subclass."""
    return {f.name: _json_value(getattr(settings, f.name)) for f in dataclasses.fields(Settings)}


def _json_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
