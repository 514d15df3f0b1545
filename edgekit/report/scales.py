"""Data to pixels, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Below this a logarithm says nothing of a latency in milliseconds.
SMALLEST = 1e-9
#: A range narrower than this is a point: ticks inside it could not be told apart.
NARROWEST = 1e-12
#: A range this many times its smallest value is shown on a log scale.
DECADE = 10.0


@dataclass(frozen=True)
class Scale:
    """Maps `low`…`high` (logarithms of them where `log`) to the pixels `start`…`end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, pad: float, log: bool) -> Scale:
        """A scale over `values`, with `pad` pixels of air at both ends so that no bubble is cut."""
        shown = [math.log10(value) for value in values] if log else list(values)
        low, high = min(shown), max(shown)
        if high - low <= max(1e-9 * max(abs(low), abs(high)), NARROWEST):
            air = 0.05 if log or abs(high) < NARROWEST else 0.05 * abs(high)
            low, high = low - air, high + air
        inner = max(1.0, abs(end - start) - 2 * pad)
        extra = (high - low) * pad / inner
        return cls(low - extra, high + extra, start, end, log)

    def __call__(self, value: float) -> float:
        """The pixel of a value; what lies outside is put at the end it lies beyond."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most `most` round values inside the scale, with their text."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def spans_decade(values: Sequence[float]) -> bool:
    return min(values) > SMALLEST and max(values) / min(values) > DECADE


def _linear_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    for step, decimals in _steps((high - low) / max(1, most)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [(i * step, f"{i * step:,.{decimals}f}") for i in range(first, last + 1)]
    return []


def _steps(least: float) -> Iterator[tuple[float, int]]:
    """Round steps from `least` up, with the decimals they need."""
    power = math.floor(math.log10(least))
    for exponent in range(power, power + 4):
        for mantissa, more in ((1.0, 0), (2.0, 0), (2.5, 1), (5.0, 0)):
            step = mantissa * 10.0**exponent
            if step >= least:
                yield step, max(0, more - exponent)


def _log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """1-2-5 where they fit, else powers of ten, else every n-th power of ten."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for mantissas, stride in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), n) for n in range(1, len(powers) + 1))):
        values = [float(f"{m}e{power}") for power in powers if power % stride == 0 for m in mantissas]
        inside = [value for value in values if low <= math.log10(value) <= high]
        if len(inside) <= most:
            return [(value, f"{value:g}") for value in inside]
    return []
