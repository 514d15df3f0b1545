"""The rows as Markdown: a table per runtime, then what the benchmark is there to answer, losses as well as wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from measure import FLOAT, OURS, Row

#: size against the smallest rival's; the ratio of latencies that edgekit's harness can tell from 1
SIZE, LATENCY = 1.01, 1.05
MEAN_DROP_PP = 0.2
LEGEND = f"""\
Drop: accuracy lost against the float model in the same runtime, in points, with its paired 95 % interval. SQNR: of the
outputs against the float model's. p50: of one call, with its batch; × fastest: the ratio to the fastest rival's, with
its 99 % interval. Size: of all files. *edgekit, static*: the best static int8 of its search, where weight-only or
dynamic int8 was chosen.

Verdicts are on edgekit's file. Accuracy: *yes* where it is not below the best rival's on these samples, *no* where the
paired interval of the difference lies above 0, else *undecided*. Latency: *no* where the interval of the ratio lies
above 1, *yes* where it ends below {LATENCY}, else *undecided*. Size: *yes* up to {SIZE} times the smallest rival's."""


def document(rows: Sequence[Row]) -> str:
    """All tables."""
    parts = []
    for runtime in dict.fromkeys(row.runtime for row in rows):
        parts += [f"### {runtime}", "", *_details([row for row in rows if row.runtime == runtime]), ""]
    parts += ["### Not below the best, not above the fastest and smallest rival", "", *_verdicts(rows), ""]
    parts += [f"### Mean drop over the suite (aim: at most {MEAN_DROP_PP} points)", "", *_means(rows), "", LEGEND]
    return "\n".join(parts)


def _details(rows: Sequence[Row]) -> Iterator[str]:
    head = ("network", "tool", "accuracy", "drop, pp", "SQNR, dB", "p50, ms", "× fastest", "kB", "made in, s")
    yield from _table(head, (_cells(row) for row in rows))


def _cells(row: Row) -> tuple[str, ...]:
    tool = f"{row.tool} ({row.how})" if row.how else row.tool
    if row.failed:
        return row.network, tool, f"failed: {row.failed}", *[""] * 6
    metric, latency = row.metric, row.latency
    assert metric is not None and row.size is not None
    itself = row.tool == FLOAT
    drop = "" if itself or metric.drop_pp is None else f"{metric.drop_pp:+.2f} {_interval(metric.drop_ci95, '.2f')}"
    return (
        row.network,
        tool,
        f"{metric.value:.2%}",
        drop,
        "" if itself else f"{row.sqnr_db:.1f}",
        f"{latency.p50:.3f} (batch {latency.batch})" + (" disturbed" if row.invalid else "") if latency else "",
        f"{row.ratio.value:.3f} {_interval(row.ratio.ci99, '.3f')}" if row.ratio else "",
        f"{row.size / 1000:.1f}",
        "" if itself else f"{row.seconds:.1f}",
    )


def _verdicts(rows: Sequence[Row]) -> Iterator[str]:
    head = ("runtime", "network", "accuracy", "pp behind the best", "latency", "× fastest", "size", "× smallest")
    yield from _table(head, (_verdict(row) for row in rows if row.tool == OURS))


def _verdict(row: Row) -> tuple[str, ...]:
    if row.failed or row.behind is None or row.size_ratio is None:
        return row.runtime, row.network, row.failed or "no rival", *[""] * 5
    behind = f"{row.rival}: {row.behind[0]:+.2f} {_interval(row.behind[1:], '.2f')}"
    fast = f"{row.fastest}: {row.ratio.value:.3f} {_interval(row.ratio.ci99, '.3f')}" if row.ratio else ""
    small = f"{row.smallest}: {row.size_ratio:.3f}"
    return row.runtime, row.network, accuracy(row), behind, latency(row), fast, size(row), small


def accuracy(row: Row) -> str:
    """yes, no or undecided: is it not below the most accurate rival's?"""
    assert row.behind is not None
    difference, low, _ = row.behind
    return "no" if low > 0 else "yes" if difference <= 0 else "undecided"


def latency(row: Row) -> str:
    """yes, no, undecided, or "" where it was not measured: is it not above the fastest rival's?"""
    if row.ratio is None:
        return ""
    if row.invalid:
        return "undecided"
    return "no" if row.ratio.ci99[0] > 1 else "yes" if row.ratio.ci99[1] <= LATENCY else "undecided"


def size(row: Row) -> str:
    assert row.size_ratio is not None
    return "yes" if row.size_ratio <= SIZE else "no"


def _means(rows: Sequence[Row]) -> Iterator[str]:
    """Per runtime and tool, over the networks it made a file of that runs."""
    lines = []
    for runtime in dict.fromkeys(row.runtime for row in rows):
        here = [row for row in rows if row.runtime == runtime and row.tool != FLOAT]
        for tool in dict.fromkeys(row.tool for row in here):
            own = [row for row in here if row.tool == tool]
            drops = [row.metric.drop_pp for row in own if row.metric and row.metric.drop_pp is not None]
            many = f"{len(drops)} of {len(own)}"
            shown = (f"{np.mean(drops):+.2f}", f"{max(drops):+.2f}") if drops else ("", "")
            reached = ("yes" if drops and np.mean(drops) <= MEAN_DROP_PP else "no") if tool == OURS else ""
            lines.append((runtime, tool, *shown, many, reached))
    yield from _table(("runtime", "tool", "mean drop, pp", "worst, pp", "networks", "aim met"), lines)


def _interval(ends: Sequence[float] | None, form: str) -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]" if ends else ""


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
