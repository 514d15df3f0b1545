"""Training history, one entry per epoch: its number, losses, `val_METRIC`, and `kept` if it was the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

History = Sequence[Mapping[str, Any]]


def best(history: History) -> Mapping[str, Any]:
    """The epoch whose weights were kept; if the history does not say, the first with the lowest validation loss."""
    kept = [entry for entry in history if entry.get("kept")]
    return kept[-1] if kept else min(history, key=lambda entry: float(entry["val_loss"]))
