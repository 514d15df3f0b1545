"""Constants that are added or multiplied, and that int8 would round more coarsely than the output is stored.

A bias that the runtime does not fold into the layer before it becomes int8 with one scale for all channels. A few large
values in it (channels that a Relu switches off: -40) then take the precision of all others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: the levels of an int8 tensor, less one
STEPS = 255


def is_coarse(
    values: NDArray[np.float32], output: tuple[float, float], factor: tuple[float, float] | None = None
) -> bool:
    """Would rounding the constant to int8 change the output by more than one of the output's own steps?

    `output`: the range of what is computed from it. `factor`: the range of what it is multiplied by; None: it is added.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if high == low or output[1] <= output[0]:
        return False
    scale = (high - low) / STEPS
    error = float(np.abs(np.round(values / scale) * scale - values).max())
    largest = 1.0 if factor is None else max(map(abs, factor))
    return error * largest > (output[1] - output[0]) / STEPS
