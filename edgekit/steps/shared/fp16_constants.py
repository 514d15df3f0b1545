"""Constants stored as float16 and computed with in float32: positional embeddings, biases of recurrent operators."""

from __future__ import annotations

import numpy as np

#: a table with fewer values is not worth an operator of its own
LARGE = 1024


def is_table(values: np.ndarray) -> bool:
    """Is it large, and more than a row? Positional embeddings are; a bias is not."""
    return values.size >= LARGE and sum(size > 1 for size in values.shape) > 1


def misfit(values: np.ndarray) -> str:
    """Why float16 does not hold the values; "" if it does: the error is at most 1/1024 of the largest one."""
    with np.errstate(over="ignore"):
        error = np.abs(values.astype(np.float16) - values).max()
    largest = np.abs(values).max()
    if error <= largest / 1024:
        return ""
    return f"float16 does not hold its values (the largest is {largest:.3g}, the largest error {error:.3g})"
