"""How to train: every option that decides what comes out. The train step has these as its own fields."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Settings:
    """AdamW under a one-cycle learning rate, unless told otherwise; the weights of the best validation epoch are kept.

    `lr` is the highest learning rate, `batch` the samples of a step over all processes; `accumulate` batches make
    one step of the optimizer. `samples`: only the first so many training samples, 0 for all. `judge`: what of the
    validation split says which epoch is better; `patience` epochs without a better one end the training. `warmup`
    (in epochs) leads up to `lr` where the schedule does not do so itself. `decay` = "weights" spares biases and
    norms the weight decay. `loss` replaces the task's own. `augment` = "auto" is what the task does by itself.
    `clip` bounds the gradient's norm, `ema` averages the weights with this decay; 0 is off for both. `freeze` names
    parts (by prefix) that stay as they are, up to the epoch `unfreeze`, or for good (0). `lr_decay` lowers the rate
    by this factor with each stage further from the output; `lr_factors` are entries such as "features=0.1".
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
    judge: Literal["loss", "metric"] = "loss"
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
        """What cannot work, a sentence each."""
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
        yield from self._at_odds()

    def _at_odds(self) -> Iterator[str]:
        """Options that do not go together."""
        if self.warmup and self.schedule == "one-cycle":
            yield "one-cycle has a warmup of its own: leave out warmup, or name another schedule"
        if self.warmup >= self.epochs > 0:
            yield "warmup must be shorter than the training"
        if self.label_smoothing and self.loss in ("mse", "bce"):
            yield f"label_smoothing is of cross-entropy, not of {self.loss}"
        if self.unfreeze and not self.freeze:
            yield "unfreeze needs something in freeze"
        if not 0 < self.lr_decay <= 1:
            yield "lr_decay must be above 0, at most 1 (the same rate everywhere)"
        for text in self.lr_factors:
            try:
                factor_of(text)
            except ValueError:
                yield f"lr_factors holds {text!r}, which is not PREFIX=NUMBER"


def factor_of(text: str) -> tuple[str, float]:
    """ "features=0.1" as prefix and factor. Raises ValueError."""
    prefix, _, number = text.rpartition("=")
    factor = float(number)
    if not prefix or not 0 < factor < math.inf:
        raise ValueError(text)
    return prefix, factor


def plain(settings: Settings) -> dict[str, Any]:
    """The options as JSON values; those of a subclass are left out."""
    return {f.name: _value(getattr(settings, f.name)) for f in dataclasses.fields(Settings)}


def _value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
