"""What a notebook shows of measured rows: sentences, a picture, the interactive page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.errors import os_errors
from edgekit.core.measurement import Measurement
from edgekit.report import html, picture
from edgekit.report.advice import advice, lines
from edgekit.workflows.compare import lineage


@dataclass(frozen=True)
class Picture:
    """An SVG; a notebook draws it where it is a cell's last value."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        return _written(path, self.svg)


def advise(rows: Sequence[Measurement]) -> list[str]:
    """What to ship on each device, what it costs, and what is not proven, in sentences."""
    return list(lines(advice(rows)))


def plot(rows: Sequence[Measurement], title: str = "") -> Picture:
    """Metric, latency and size of the rows, a panel per device and plan, with the Pareto front."""
    return Picture(picture(rows, title))


def page(
    rows: Sequence[Measurement], path: str | Path, *, title: str = "edgekit", runs: Iterable[str | Path] = ()
) -> Path:
    """Write the interactive page; `runs` are the folders that lineages and sample answers are read from."""
    found = lineage.gather(map(Path, runs), rows)
    return _written(path, html(rows, title, found))


def _written(path: str | Path, text: str) -> Path:
    place = Path(path)
    with os_errors("write", place):
        place.write_text(text, encoding="utf-8")
    return place
