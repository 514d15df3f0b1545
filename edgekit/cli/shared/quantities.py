"""Options that are numbers with a unit: `0.5pp`, `10m`, `5ms`, `500kB`, `50%`. Nonsense is refused when the command
line is read, before anything slower, with the forms that are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click


class Quantity(click.ParamType):  # type: ignore[type-arg]
    """A number from `low` to `high`, in the unit that has the factor 1. The unit "" is a number without a unit."""

    name = "quantity"

    def __init__(self, accepted: str, units: Mapping[str, float], low: float, high: float) -> None:
        self.accepted, self.units, self.low, self.high = accepted, units, low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([^\W\d_]*|%)", str(value).strip())
        factor = self.units.get(match[2].lower().replace("μ", "u").replace("µ", "u")) if match else None
        if match is not None and factor is not None and self.low <= (number := float(match[1]) * factor) <= self.high:
            return number
        self.fail(f"{str(value)[:60]!r} is not {self.accepted}", param, ctx)


#: percentage points. Per cent would be ambiguous: of the accuracy, or points of it?
POINTS = Quantity("percentage points from 0 to 100, such as 0.5 or 0.5pp", {"": 1, "pp": 1}, 0, 100)
#: seconds
DURATION = Quantity(
    "a time from 1s to 24h, such as 30s or 10m", {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}, 1, 86_400
)
#: milliseconds
LATENCY = Quantity("a time with its unit, such as 5ms or 200us", {"us": 0.001, "ms": 1, "s": 1000}, 1e-6, 1e9)
#: bytes
SIZE = Quantity(
    "a size with its unit, such as 500kB or 1MB",
    {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    1,
    1e15,
)
SHARE = Quantity("a share between 0 and 1, such as 0.5 or 50%", {"": 1, "%": 0.01}, 1e-9, 1 - 1e-9)
FACTOR = Quantity("a factor above 1, such as 1.5 or 1.5x", {"": 1, "x": 1}, 1 + 1e-9, 1e6)
