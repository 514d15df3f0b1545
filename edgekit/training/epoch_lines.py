"""What a training says: what it starts with, a line per epoch, and the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.core.history import History, best
from edgekit.core.progress import duration
from edgekit.core.samples import SampleSet
from edgekit.core.task import Task
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    from torch import nn

Say = Callable[[str], None]

#: a longer training says about so many lines, and one at least every so many seconds
MOST_LINES, LONGEST_SILENCE = 50, 10.0


class EpochLines:
    """The lines of one training, at most 80 columns wide; nothing if `say` is None. `done`: epochs of earlier runs."""

    def __init__(
        self, say: Say | None, settings: Settings, done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._settings, self._clock = say, settings, clock
        self._first, self._finished = done, done
        self._started = self._epoch_started = self._last_line = clock()
        self._interval = math.ceil(settings.epochs / MOST_LINES) if settings.epochs > 2 * MOST_LINES else 1
        self._has_header = False

    def left(self) -> str:
        """The time that the remaining epochs take: "2 min"; "" before the first epoch is over."""
        finished = self._finished - self._first
        if not finished or self._finished >= self._settings.epochs:
            return ""
        per_epoch = (self._clock() - self._started) / finished
        return duration(per_epoch * (self._settings.epochs - self._finished))

    def epoch(self, entry: Mapping[str, Any]) -> None:
        """One epoch is over; `entry` is its entry of the history."""
        now, self._finished = self._clock(), int(entry["epoch"])
        seconds, self._epoch_started = now - self._epoch_started, now
        last = self._finished == self._settings.epochs
        due = self._finished % self._interval == 0 or now - self._last_line >= LONGEST_SILENCE
        if self._say is None or not (due or last or not self._has_header):
            return
        self._last_line = now
        columns = self._columns(entry, seconds)
        if not self._has_header:
            self._has_header = True
            self._say("  " + "  ".join(title for title, _ in columns))
        cells = "  ".join(f"{cell:>{len(title)}}" for title, cell in columns)
        self._say(f"  {cells}  {'*' if entry.get('kept') else ''}".rstrip())

    def _columns(self, entry: Mapping[str, Any], seconds: float) -> list[tuple[str, str]]:
        """Title, as wide as its column, and this epoch's cell."""
        epochs = self._settings.epochs
        columns = [
            (f"{'epoch':>{2 * len(str(epochs)) + 1}}", f"{entry['epoch']}/{epochs}"),
            ("train loss", number(entry["loss"])),
            *((f"{name[:13]:>10}", number(entry[key])) for name, key in _metrics(entry)),
        ]
        if self._settings.schedule != "constant" or self._settings.warmup:
            columns.append(("      lr", f"{entry['lr']:.1e}"))
        columns.append(("   time", f"{seconds:.2f} s" if seconds < 100 else duration(seconds)))
        return [*columns, ("  left", self.left())]


def start(
    network: nn.Module, model: str, settings: Settings, task: Task, train: SampleSet, val: SampleSet, device: object
) -> Iterator[str]:
    """The data, the network and the settings, a line each."""
    sizes = ", ".join("x".join(map(str, array.shape[1:])) or "1" for array in train.inputs.values())
    goal = f"{len(task.classes)} classes" if task.classes else "regression"
    used = min(settings.samples or len(train), len(train))
    yield f"  data      {used:,} training and {len(val):,} validation samples of {sizes} values, {goal}"
    parameters = sum(parameter.numel() for parameter in network.parameters())
    yield f"  model     {model}: {parameters:,} parameters, on {device}"
    rate = f"lr {settings.lr:g} ({settings.schedule})"
    yield f"  settings  at most {settings.epochs} epochs, batch {settings.batch}, {settings.optimizer}, {rate}"


def result(history: History) -> str:
    """The epoch whose weights are kept."""
    kept = best(history)
    values = ", ".join(f"{name} {number(kept[key])}" for name, key in _metrics(kept))
    return f"  best *    epoch {kept['epoch']} of {len(history)}: {values}"


def number(value: float) -> str:
    """A loss or a metric in at most 10 characters: 0.0412, 31.4159, 2.31e-05, 1.20e+08."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def _metrics(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """ "val loss", then "val accuracy", each with its key in an entry."""
    keys = sorted((key for key in entry if key.startswith("val_")), key=lambda key: key != "val_loss")
    return [(f"val {key.removeprefix('val_')}", key) for key in keys]
