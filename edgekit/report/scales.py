"""Axis scales: data to pixels, and ticks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Latencies below this (ms) are not shown on a log scale.
SMALLEST = 1e-9
#: A range narrower than this is treated as a single value.
NARROWEST = 1e-12
#: A larger ratio of largest to smallest value is shown on a log scale.
DECADE = 10.0


@dataclass(frozen=True)
class Scale:
    """Maps `low`…`high` (log10 of the values if `log`) to the pixels `start`…`end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, pad: float, log: bool) -> Scale:
        """A scale over `values` with `pad` pixels at both ends, so that no bubble is clipped."""
        transformed = [math.log10(value) for value in values] if log else list(values)
        low, high = min(transformed), max(transformed)
        if high - low <= max(1e-9 * max(abs(low), abs(high)), NARROWEST):
            margin = 0.05 if log or abs(high) < NARROWEST else 0.05 * abs(high)
            low, high = low - margin, high + margin
        inner = max(1.0, abs(end - start) - 2 * pad)
        extra = (high - low) * pad / inner
        return cls(low - extra, high + extra, start, end, log)

    def __call__(self, value: float) -> float:
        """The pixel of a value, clipped to the ends."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        fraction = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return self.start + fraction * (self.end - self.start)

    def ticks(self, limit: int) -> list[tuple[float, str]]:
        """At most `limit` round values inside the scale, with their text."""
        return _log_ticks(self.low, self.high, limit) if self.log else _linear_ticks(self.low, self.high, limit)


def spans_decade(values: Sequence[float]) -> bool:
    return min(values) > SMALLEST and max(values) / min(values) > DECADE


def _linear_ticks(low: float, high: float, limit: int) -> list[tuple[float, str]]:
    for step, decimals in _steps((high - low) / max(1, limit)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= limit:
            return [(i * step, f"{i * step:,.{decimals}f}") for i in range(first, last + 1)]
    return []


def _steps(minimum: float) -> Iterator[tuple[float, int]]:
    """Round steps from `minimum` up, with the number of decimals they need."""
    power = math.floor(math.log10(minimum))
    for exponent in range(power, power + 4):
        for mantissa, more in ((1.0, 0), (2.0, 0), (2.5, 1), (5.0, 0)):
            step = mantissa * 10.0**exponent
            if step >= minimum:
                yield step, max(0, more - exponent)


def _log_ticks(low: float, high: float, limit: int) -> list[tuple[float, str]]:
    """1-2-5 if they fit, else powers of ten, else every n-th power of ten."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for mantissas, stride in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), n) for n in range(1, len(powers) + 1))):
        values = [float(f"{m}e{power}") for power in powers if power % stride == 0 for m in mantissas]
        in_range = [value for value in values if low <= math.log10(value) <= high]
        if len(in_range) <= limit:
            return [(value, f"{value:g}") for value in in_range]
    return []
