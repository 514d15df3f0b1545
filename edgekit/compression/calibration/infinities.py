"""Values that stand for infinity, as in the masks of attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: magnitudes from here on: torch.finfo(torch.float32).min is a common mask
INFINITE = 1e30


def has_infinities(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((np.abs(values) >= INFINITE).any())


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """The values that are not infinite; NaN stays, and is an error later."""
    kept: NDArray[Any] = values[~(np.abs(values) >= INFINITE)]
    return kept
