"""From a tensor's histogram to its quantization range: min-max, percentile, or MSE calibration.

A range always includes zero, which is then a quantization level: zeros (padding, outputs of a ReLU) stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, suggest
from edgekit.formats.ranges import Histogram

Method = Literal["min-max", "percentile", "mse"]
METHODS: tuple[str, ...] = get_args(Method)
#: tensor name → (low, high)
Ranges = dict[str, tuple[float, float]]
#: the percentage of values below the upper end of "percentile", and above the lower one
PERCENTILE = 99.999
#: candidate ends of "mse" on each side: PER_OCTAVE per power of two, down to 1/2**OCTAVES of the extreme
PER_OCTAVE, OCTAVES = 16, 8


def ranges(statistics: Mapping[str, Histogram], method: str, *, symmetric: bool = False) -> Ranges:
    """Tensor name → (low, high) for every observed tensor. Raises InputError for an unknown method."""
    return {name: choose(histogram, method, symmetric=symmetric) for name, histogram in statistics.items()}


def choose(histogram: Histogram, method: str, *, symmetric: bool = False, levels: int = 256) -> tuple[float, float]:
    """The ends (low <= 0 <= high) of the range of `levels` quantization levels; (0, 0) without observed values.

    `symmetric`: low = -high. "mse" minimises the expected squared error, among ends within the extremes. Raises
    InputError for an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"there is no range method {method!r}", next=suggest(method, METHODS))
    if not histogram.count:
        return 0.0, 0.0
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    if method == "percentile":
        low, high = _percentiles(histogram, PERCENTILE)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if method == "mse" and high > low:
        low, high = _least_error(histogram, low, high, symmetric, levels)
    return low + 0.0, high + 0.0  # never -0.0


def _percentiles(histogram: Histogram, percent: float) -> tuple[float, float]:
    """The outer edges of the bins that contain the two percentiles."""
    lower, upper, counts = histogram.values()
    seen = np.cumsum(counts)
    outside = seen[-1] * (1 - percent / 100)
    low = lower[np.searchsorted(seen, outside, side="right")]
    high = upper[np.searchsorted(seen, seen[-1] - outside, side="left")]
    return min(float(low), 0.0), max(float(high), 0.0)


def _least_error(histogram: Histogram, low: float, high: float, symmetric: bool, levels: int) -> tuple[float, float]:
    """The pair of ends within (low, high) with the least error by `_Errors`, by grid search."""
    errors = _Errors(histogram)
    shares = 2.0 ** -(np.arange(PER_OCTAVE * OCTAVES + 1) / PER_OCTAVE)
    if symmetric:
        best = int(np.argmin(errors.of(-high * shares, high * shares, levels)))
        return -float(high * shares[best]), float(high * shares[best])
    lows = low * shares if low < 0 else np.zeros(1)
    highs = high * shares if high > 0 else np.zeros(1)
    best_low, best_high = divmod(int(np.argmin(errors.of(lows[:, None], highs[None, :], levels))), len(highs))
    return float(lows[best_low]), float(highs[best_high])


class _Errors:
    """The squared error of quantizing a histogram's values in a range, from cumulative sums.

    A value beyond an end is clipped to it. Within the range, the rounding error is step²/12 on average, but a value x
    nearer to zero than half a step becomes zero, with error x². Exact zeros have no error and are excluded.
    """

    def __init__(self, histogram: Histogram) -> None:
        lower, upper, counts = histogram.values()
        real = (lower != 0) | (upper != 0)
        values, weights = (lower[real] + upper[real]) / 2, counts[real].astype(np.float64)
        self._ascending = _Sums(values, weights)
        order = np.argsort(np.abs(values), kind="stable")
        self._outward = _Sums(np.abs(values)[order], weights[order])

    def of(self, low: NDArray[np.float64], high: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
        """The sum of squared errors for each pair of ends; the two broadcast."""
        step = (high - low) / (levels - 1)
        count, first, second = self._ascending.upto(low)
        below = second - 2 * low * first + low**2 * count
        inside = self._ascending.upto(high, "right")
        above_count, above_first, above_second = (
            total - part for total, part in zip(self._ascending.totals, inside, strict=True)
        )
        above = above_second - 2 * high * above_first + high**2 * above_count
        near_count, _, near_second = self._outward.upto(step / 2)
        rounded = np.maximum(inside[0] - count - near_count, 0)
        return np.maximum(below, 0) + np.maximum(above, 0) + near_second + rounded * step**2 / 12


class _Sums:
    """Cumulative sums of n, n·x and n·x² over ascending values x."""

    def __init__(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self._values = values
        terms = (weights, weights * values, weights * values**2)
        self._sums = [np.concatenate([[0.0], np.cumsum(term)]) for term in terms]
        self.totals = tuple(float(sums[-1]) for sums in self._sums)

    def upto(
        self, ends: NDArray[np.float64], side: Literal["left", "right"] = "left"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The sums over all values below each end; with "right", also over values equal to it."""
        index = np.searchsorted(self._values, ends, side=side)
        count, first, second = (sums[index] for sums in self._sums)
        return count, first, second
