"""What a notebook shows of measured rows: advice, a chart, the interactive page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit import report
from edgekit.core.files import write_atomically
from edgekit.core.history import History
from edgekit.core.measurement import Measurement
from edgekit.report import curve, file, html, picture
from edgekit.report.advice import advice, lines
from edgekit.workflows.compare import lineage


@dataclass(frozen=True)
class Picture:
    """An SVG; a notebook displays it if it is the last value of a cell.

    Examples:
        >>> edgekit.compare("runs/mnist").plot().svg[:4]
        '<svg'
    """

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write it as .svg, .png or .pdf. Raises InputError for another format, Missing without `cairosvg`.

        Examples:
            >>> edgekit.compare("runs/mnist").plot().save("digits.svg").name
            'digits.svg'
        """
        file.write(Path(path), self.svg)
        return Path(path)


def advise(rows: Sequence[Measurement]) -> list[str]:
    """Sentences on what to ship on each device, what it costs, and what is not proven."""
    return list(lines(advice(rows)))


def plot(rows: Sequence[Measurement], title: str = "") -> Picture:
    """Metric, latency and size of the rows, a panel per device and plan, with the Pareto front."""
    return Picture(picture(rows, title))


def plot_training(history: History, title: str = "") -> Picture:
    """Losses and metric by epoch, and the epoch whose weights were kept."""
    return Picture(curve.picture(history, title))


def summary(rows: Sequence[Measurement], title: str = "") -> Picture:
    """One page for a manager: headline, three numbers, picture, short table."""
    return Picture(report.summary(rows, title))


def page(
    rows: Sequence[Measurement], path: str | Path, *, title: str = "edgekit", runs: Iterable[str | Path] = ()
) -> Path:
    """Write the interactive page; `runs` are the folders that lineages and sample answers are read from."""
    details = lineage.gather(map(Path, runs), rows)
    write_atomically(Path(path), html(rows, title, details))
    return Path(path)
