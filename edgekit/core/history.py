"""Training history, one entry per epoch.

`epoch`, `loss`, `val_loss`, `val_METRIC`, `lr` (the learning rate at its end), and `kept` if it was the best so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

History = Sequence[Mapping[str, Any]]


def is_history(value: Any) -> bool:
    """Has it what a report shows: entries with an epoch and losses that are numbers, each with the same values?"""
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        return False
    shown = {"epoch", "loss", "val_loss", *(str(name) for name in value[0] if str(name).startswith("val_"))}
    return all(isinstance(entry.get(name), int | float) for entry in value for name in shown)


def best(history: History) -> Mapping[str, Any]:
    """The epoch whose weights were kept; if the history does not say, the first with the lowest validation loss."""
    kept = [entry for entry in history if entry.get("kept")]
    return kept[-1] if kept else min(history, key=lambda entry: float(entry["val_loss"]))
