"""Values that stand for infinity, as in the masks of attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: magnitudes from here on: torch.finfo(torch.float32).min is a common mask
INFINITE = 1e30
#: constants from here down are masks, too, where nothing but a softmax reads them: BERT's first authors added -10,000
LARGE = 1e4


def has_infinities(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((np.abs(values) >= INFINITE).any())


def has_large(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((values <= -LARGE).any())


def finite(values: NDArray[Any], limit: float = INFINITE) -> NDArray[Any]:
    """The values whose magnitude is below the limit; NaN stays, and is an error later."""
    kept: NDArray[Any] = values[~(np.abs(values) >= limit)]
    return kept
