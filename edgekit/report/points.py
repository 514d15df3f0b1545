"""The points of a picture: measurements with a metric and a latency, their names, colours and sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.core.measurement import Latency, Measurement, Metric
from edgekit.report.pareto import fronts
from edgekit.report.rows import kilobytes, metric_text, number
from edgekit.report.style import format_class, shape_of

#: The longest name in a label; the tooltip has the full name.
LONGEST = 28


@dataclass(frozen=True)
class Point:
    """A measurement with a metric and a latency."""

    m: Measurement
    metric: Metric
    latency: Latency
    name: str
    front: bool
    colour: str
    recommended: bool = False

    @property
    def shape(self) -> str:
        return shape_of(self.m.precision)

    @property
    def percent(self) -> float:
        return self.y(self.metric.value)

    def y(self, value: float) -> float:
        return value * 100 if self.metric.unit == "fraction" else value

    @property
    def sentence(self) -> str:
        """The point as a sentence, for tooltips and screen readers."""
        parts = [
            f"{self.name}: {metric_text(self.metric, self.metric.value)} {self.metric.name}",
            f"p50 {number(self.latency.p50)} ms",
            f"{kilobytes(self.m.size_bytes)} kB",
            self.m.precision,
        ]
        if self.m.invalid:
            parts.append(f"invalid ({'; '.join(self.m.invalid)})")
        if self.front:
            parts.append("on the Pareto front")
        if self.recommended:
            parts.append("recommended")
        return ", ".join(part for part in parts if part)

    @property
    def label(self) -> str:
        """The name next to the bubble, with "recommended", "invalid", or the provenance if not measured."""
        notes = ["recommended"] * self.recommended + ["invalid"] * bool(self.m.invalid)
        notes += [self.m.provenance] * self.estimate
        return short(self.name) + (f" ({', '.join(notes)})" if notes else "")

    @property
    def estimate(self) -> bool:
        return self.m.provenance != "measured"


def short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def points_of(measurements: Sequence[Measurement], chosen: frozenset[int] = frozenset()) -> list[Point]:
    """The points of one scope; `chosen` is what `advice.recommended` gives."""
    on_front = {id(m) for front in fronts(measurements).values() for m in front}
    names = Counter(m.artifact for m in measurements)
    points = []
    for m in measurements:
        assert m.metric and m.latency_ms  # scopes() gives only such measurements
        name = f"{m.artifact} ({m.runtime})" if names[m.artifact] > 1 else m.artifact
        points.append(
            Point(m, m.metric, m.latency_ms, name, id(m) in on_front, format_class(m.format), id(m) in chosen)
        )
    return points


def radii(points: Sequence[Point], wide: bool) -> list[float]:
    """Area is proportional to file size; the largest radius shrinks with the number of points, with a minimum of 4."""
    largest = max(1, *(p.m.size_bytes for p in points)) if points else 1
    largest_radius = min(20.0 if wide else 15.0, max(8.0, (80.0 if wide else 52.0) / math.sqrt(max(1, len(points)))))
    return [max(4.0, largest_radius * math.sqrt(max(0, p.m.size_bytes) / largest)) for p in points]
