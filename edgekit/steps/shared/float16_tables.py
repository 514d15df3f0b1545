"""Tables that are added, as a transformer's of places, stored as float16 and added in float32."""

from __future__ import annotations

import numpy as np

#: a table with fewer values is not worth an operator of its own
LARGE = 1024


def is_table(values: np.ndarray) -> bool:
    """Is it large, and more than a row?"""
    return values.size >= LARGE and sum(size > 1 for size in values.shape) > 1


def half(values: np.ndarray) -> np.ndarray | None:
    """The values as float16; None where that would be infinite, or next to nothing of the largest one left."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float16)
    return found if np.abs(found - values).max() <= np.abs(values).max() / 1024 else None
