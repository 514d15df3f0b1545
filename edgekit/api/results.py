"""The measurements of several artifacts on several devices."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from edgekit.core.errors import Missing
from edgekit.core.measurement import Measurement
from edgekit.report.advice import advice
from edgekit.report.pareto import fronts
from edgekit.report.rows import memory, scopes
from edgekit.report.rows import rows as text_rows
from edgekit.workflows.compare import notebook
from edgekit.workflows.compare.notebook import Picture

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


class Results(Sequence[Measurement]):
    """Measurements in order: a sequence, which a notebook shows as a table. Two are added with `+`.

    Args:
        measurements: The measurements.
        runs: The folders that they come from, for `page`.

    Examples:
        >>> results = edgekit.compare("runs/mnist")
        >>> results[0].size_bytes > 0, len(results + results[:1]) == len(results) + 1
        (True, True)
    """

    def __init__(self, measurements: Iterable[Measurement], runs: Iterable[Path] = ()) -> None:
        self._rows = tuple(measurements)
        self._runs = tuple(run.absolute() for run in runs)

    @overload
    def __getitem__(self, index: int) -> Measurement: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> Measurement | Results:
        return Results(self._rows[index], self._runs) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __add__(self, other: Results) -> Results:
        return Results([*self._rows, *other._rows], dict.fromkeys([*self._runs, *other._runs]))

    def to_pandas(self) -> pandas.DataFrame:
        """One row per measurement, with flat columns.

        Returns:
            A pandas.DataFrame: times in milliseconds, sizes in bytes, `drop_pp` in percentage points, positive where
            accuracy was lost; `memory_bytes` is the model's, `peak_memory_bytes` that of the whole process.

        Raises:
            Missing: pandas is not installed.

        Examples:
            >>> table = edgekit.compare("runs/mnist").to_pandas()
            >>> list(table.columns[:3])
            ['artifact', 'format', 'precision']
        """
        try:
            import pandas
        except ImportError as error:
            raise Missing.install("a DataFrame", "pandas", "data") from error
        return pandas.DataFrame([dict(_flat(m)) for m in self._rows])

    @property
    def best(self) -> Measurement | None:
        """What to ship, of the first device; None if nothing can be recommended. `advice` says why.

        Examples:
            >>> best = edgekit.compare("runs/mnist").best
            >>> best is None or best.target == "host"
            True
        """
        found = next(iter(advice(self._rows)), None)
        return found.measurement if found else None

    @property
    def pareto(self) -> Results:
        """Those that no other beats in both accuracy and p50, for each device and plan, fastest first.

        Examples:
            >>> results = edgekit.compare("runs/mnist")
            >>> 1 <= len(results.pareto) <= len(results)
            True
        """
        found = [m for scoped in scopes(self._rows).values() for front in fronts(scoped).values() for m in front]
        return Results(found, self._runs)

    @property
    def advice(self) -> list[str]:
        """What to ship on each device, what it costs, and what is not proven: sentences.

        Examples:
            >>> edgekit.compare("runs/mnist").advice
            ['On host...']
        """
        return notebook.advise(self._rows)

    def plot(self, title: str = "") -> Picture:
        """Accuracy, latency and size, a panel per device and plan.

        Args:
            title: Above the picture.

        Returns:
            An SVG, which a notebook shows in its own light or dark colours.

        Examples:
            >>> edgekit.compare("runs/mnist").plot("Digits").save("digits.svg").name
            'digits.svg'
        """
        return notebook.plot(self._rows, title)

    def summary(self, path: str | Path | None = None, *, title: str = "") -> Picture:
        """One page for a manager: a headline, three numbers, the picture, a short table, and how it was measured.

        Args:
            path: Where it is written, too: PNG and PDF on white, SVG on transparent ground, in the reader's light or
                dark scheme. None: it is returned only.
            title: Of the page.

        Returns:
            The page, which a notebook shows.

        Raises:
            InputError: Another suffix than .svg, .png or .pdf.
            Missing: PNG and PDF need CairoSVG: `pip install 'edgekit-toolkit[pictures]'`.

        Examples:
            >>> edgekit.compare("runs/mnist").summary("summary.svg").svg[:4]
            '<svg'
        """
        page = notebook.summary(self._rows, title)
        if path is not None:
            page.save(path)
        return page

    def page(self, path: str | Path, *, title: str = "edgekit") -> Path:
        """Write the interactive HTML page.

        Args:
            path: The file.
            title: Of the page.

        Returns:
            The file.

        Raises:
            InputError: It cannot be written.

        Examples:
            >>> edgekit.compare("runs/mnist").page("digits.html", title="Digits").name
            'digits.html'
        """
        return notebook.page(self._rows, path, title=title, runs=self._runs)

    def __eq__(self, other: object) -> bool:
        return self._rows == other._rows if isinstance(other, Results) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Results: {len(self)} measurements of {', '.join(dict.fromkeys(m.artifact for m in self._rows))}>"

    def _repr_html_(self) -> str:
        head = ("artifact", "target", "runtime", "accuracy", "drop, pp", "p50, ms", "size, kB", "notes")
        notes = ("; ".join(row.notes) for row in text_rows(self._rows))
        cells = [head, *((*_cells(m), note) for m, note in zip(self._rows, notes, strict=True))]
        rows = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for row, tag in _tagged(cells)]
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _tagged(rows: Sequence[Sequence[str]]) -> Iterator[tuple[Sequence[str], str]]:
    for index, row in enumerate(rows):
        yield row, "td" if index else "th"


def _cells(m: Measurement) -> tuple[str, ...]:
    metric, latency = m.metric, m.latency_ms
    percent = metric is not None and metric.unit == "fraction"
    value = "" if metric is None else f"{metric.value:.2%}" if percent else f"{metric.value:.4g} {metric.name}"
    drop = "" if metric is None or metric.drop_pp is None else f"{metric.drop_pp:+.2f}"
    time = "" if latency is None else f"{latency.p50:.3f}"
    return m.artifact, m.target, m.runtime, value, drop, time, f"{m.size_bytes / 1000:,.1f}"


def _flat(m: Measurement) -> Iterator[tuple[str, Any]]:
    for name in ("artifact", "format", "precision", "scheme", "target", "runtime", "provenance"):
        yield name, getattr(m, name)
    yield "size_bytes", m.size_bytes
    metric, latency = m.metric, m.latency_ms
    yield "metric", metric and metric.name
    yield "value", metric and metric.value
    yield "value_low", metric and metric.ci95[0]
    yield "value_high", metric and metric.ci95[1]
    yield "drop_pp", metric and metric.drop_pp
    yield "samples", metric and metric.samples
    for name in ("p50", "p90", "p99"):
        yield f"{name}_ms", latency and getattr(latency, name)
    yield "p50_low_ms", latency and latency.ci95[0]
    yield "p50_high_ms", latency and latency.ci95[1]
    yield "clock", latency and latency.clock
    yield "threads", latency and latency.threads
    yield "batch", latency and latency.batch
    if m.generation:
        yield "prompt_tokens", m.generation.token_ms.prompt
        yield "new_tokens", m.generation.token_ms.new_tokens
        yield "first_token_ms", m.generation.first_token_ms.p50
        yield "tokens_per_second", m.generation.tokens_per_second
        yield "cache_bytes", m.generation.cache_bytes
    yield "load_ms", m.load_ms
    yield "memory_bytes", memory(m)
    yield "peak_memory_bytes", m.peak_rss_bytes
    yield "budget", m.verdict and m.verdict.state
    yield "invalid", "; ".join(m.invalid)
