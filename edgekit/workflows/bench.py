"""`bench`: artifacts are measured on each target, always again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.core import metrics
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.measure import parallel, targets
from edgekit.measure.context import Outcome
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.workflows.import_ import stored
from edgekit.workflows.setup import (
    Say,
    finished,
    flow_for,
    plan_with,
    runnable,
    silent,
    task_of,
    test_set,
    threads_of,
    working,
)
from edgekit.workflows.sustained import write_pictures


def bench(
    artifacts: Sequence[str] = (),
    *,
    target_names: Sequence[str] = (),
    data: str = "",
    plan: dict[str, Any] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Measure artifacts (RUN: every one in it) on each target, always afresh, interleaved; results are kept.

    `out` is the run folder that a foreign model is imported into; `resume` keeps identical measurements.
    """
    outcome = Outcome()
    for ref in [stored(references.resolve(word, out), progress, say) for word in (artifacts or [""])]:
        store = ref.store
        chosen = [store.get(ref.name)] if ref.name else finished(store)
        skipped = set(store.names()) - {a.name for a in store.current()} if not ref.name else set()
        for name in sorted(skipped):
            say(f"  skipped   {name}: damaged, or made from an artifact that has been made anew since")
        context = flow_for(
            store, task_of(chosen), target_names or ["host"], plan_with(Plan(), plan), Gates(), progress, say
        )
        samples = context.set(data, chosen[0].inputs) if data else test_set(context, chosen)
        if samples.labels is not None and context.scorer is None:
            context.scorer = metrics.scorer(samples.labels)
        with working(store):
            for target in context.targets:
                targets.device(target)
                runnable(chosen, target)
            plans = [replace(context.plan, threads=threads) for threads in threads_of(context.plan, plan)]
            parallel.measure(chosen, context.targets, samples, context, plans, reuse=resume)
            write_pictures(store, context.outcome.measurements, say)
        outcome.artifacts += chosen
        outcome.measurements += context.outcome.measurements
        outcome.failures += context.outcome.failures
    return outcome
