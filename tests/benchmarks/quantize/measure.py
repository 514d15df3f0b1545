"""Every file of one network in one runtime, ours and the rivals', measured together by the same benchmark code."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Latency, Metric, Ratio, Run
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scores, Task
from edgekit.measure.execute import execute_all, runtimes_for

OURS, FLOAT = "edgekit", "float"
#: the best static int8 of a search that chose another kind; shown, and compared with no rival
STATIC = "edgekit, static"
#: a call shorter than this is measured in batches
LEAST_MS = 1.0
MOST_BATCH = 512


@dataclass(frozen=True)
class Row:
    """One tool's file. `failed`: why there is none, or none that runs. Only ours has what follows `rival`.

    `behind`: the best rival's accuracy minus this, in points, with its 95 % interval; `ratio`: p50 over the fastest's.
    """

    network: str
    runtime: str
    tool: str
    how: str = ""
    seconds: float = 0.0
    failed: str = ""
    metric: Metric | None = None
    sqnr_db: float | None = None
    size: int | None = None
    latency: Latency | None = None
    invalid: tuple[str, ...] = ()
    rival: str = ""
    behind: tuple[float, float, float] | None = None
    fastest: str = ""
    ratio: Ratio | None = None
    smallest: str = ""
    size_ratio: float | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def together(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of several runs; one that comes again gives its latency where none was measured before."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in (row for rows in runs for row in rows):
        first = found.setdefault((row.network, row.runtime, row.tool), row)
        if first.latency is None:
            timed = {name: getattr(row, name) for name in ("latency", "invalid", "fastest", "ratio")}
            found[row.network, row.runtime, row.tool] = dataclasses.replace(first, **timed)
    return list(found.values())


def rows(
    files: Mapping[str, Artifact],
    empty: Mapping[str, Row],
    task: Task,
    data: SampleSet,
    target: Target,
    plan: Plan,
    latency: bool,
) -> list[Row]:
    """One row per file; `files` includes the float model, `empty` the known facts of each tool before measuring.

    A file that the runtime rejects gets a row that says so.
    """
    runtime = runtimes_for(files[FLOAT], target)[0]
    outputs, failed = _outputs(files, runtime, target, data, plan)
    runs = {name: file for name, file in files.items() if name not in failed}
    times = _times(runs, runtime, target, data, plan) if latency else {}
    assert data.labels is not None
    scores = {name: task.score(found, data.labels) for name, found in outputs.items()}
    found = {}
    for name, row in empty.items():
        if name in failed or row.failed:
            found[name] = dataclasses.replace(row, failed=failed.get(name, row.failed))
            continue
        time = times.get(name)
        found[name] = dataclasses.replace(
            row,
            metric=statistics.metric(scores[name], data.sha256, scores[FLOAT], FLOAT),
            sqnr_db=statistics.parity(FLOAT, outputs[FLOAT], outputs[name]).sqnr_db,
            size=files[name].sizes.total,
            latency=statistics.latency(time.processes, plan.threads, time.facts["batch"]) if time else None,
            invalid=time.invalid if time else (),
        )
    rivals = {name: row for name, row in found.items() if name not in (OURS, STATIC, FLOAT) and not row.failed}
    if rivals and OURS in found and not found[OURS].failed:
        found[OURS] = compared(found[OURS], rivals, scores)
    return list(found.values())


def compared(row: Row, rivals: Mapping[str, Row], scores: Mapping[str, Scores]) -> Row:
    """edgekit's file compared with the best rival in each respect.

    The most accurate one is chosen on the samples it is then compared on, which favours it.
    """
    best = max(rivals, key=lambda name: (rivals[name].metric.value, rivals[name].sqnr_db))  # type: ignore[union-attr]
    drop, ends, _ = statistics.paired_drop(scores[best].per_sample, scores[row.tool].per_sample)
    small = min(rivals, key=lambda name: rivals[name].size or math.inf)
    fast = min(rivals, key=lambda name: rivals[name].latency.p50 if rivals[name].latency else math.inf)
    theirs = rivals[fast].latency
    return dataclasses.replace(
        row,
        rival=best,
        behind=(100 * drop, 100 * ends[0], 100 * ends[1]),
        smallest=small,
        size_ratio=(row.size or 0) / (rivals[small].size or 1),
        fastest=fast if theirs else "",
        ratio=statistics.latency_ratio(row.latency, theirs, paired=True) if row.latency and theirs else None,
    )


def _outputs(
    files: Mapping[str, Artifact], runtime: str, target: Target, data: SampleSet, plan: Plan
) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """File → its outputs for every sample, and file → why it has none. Raises for the float model alone."""
    found, failed = {}, {}
    for name, file in files.items():
        try:
            run = execute_all([(file, runtime)], target, data, plan, latency=False)[0]
            first = next(iter(run.outputs.values()))
            if not np.isfinite(first).all():
                raise ValueError("its outputs are not finite")
            found[name] = run.outputs
        except Exception as error:  # a rival's file may fail in any way
            if name == FLOAT:
                raise
            failed[name] = one_line(error)
    return found, failed


def _times(files: Mapping[str, Artifact], runtime: str, target: Target, data: SampleSet, plan: Plan) -> dict[str, Run]:
    """File → its timed processes, all interleaved, in batches so large that the fastest call takes a millisecond."""
    pairs = [(file, runtime) for file in files.values()]
    glance = dataclasses.replace(plan, processes=1, seconds=0.05)
    first = execute_all(pairs, target, data, glance, outputs=False)
    fastest = min(statistics.latency(run.processes, plan.threads, 1).p50 for run in first)
    batch = min(MOST_BATCH, 1 if fastest >= LEAST_MS else 2 ** math.ceil(math.log2(1.2 * LEAST_MS / fastest)))
    # a model whose batch is fixed keeps it, and says so in its facts
    runs = execute_all(pairs, target, data, dataclasses.replace(plan, batch=batch), outputs=False)
    return dict(zip(files, runs, strict=True))


def one_line(error: BaseException) -> str:
    said: Sequence[str] = str(error).strip().splitlines()
    return " ".join((said[0] if said else type(error).__name__).split())[:200]
