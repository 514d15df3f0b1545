"""What a training did, an entry per epoch: its number, losses, `val_METRIC`, and `kept` where it was the best yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

History = Sequence[Mapping[str, Any]]


def best(history: History) -> Mapping[str, Any]:
    """The epoch whose weights were kept; in a history that does not say so, the first of the lowest validation loss."""
    kept = [entry for entry in history if entry.get("kept")]
    return kept[-1] if kept else min(history, key=lambda entry: float(entry["val_loss"]))
