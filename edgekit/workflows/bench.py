"""`bench`: measure artifacts on targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.core.user_code import typed_by_user
from edgekit.measure import parallel, targets
from edgekit.measure.context import Outcome
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.runs.shapes import Shapes
from edgekit.workflows.import_ import ensure_imported
from edgekit.workflows.setup import (
    Say,
    check_runnable,
    checked_metric,
    choose_metric,
    open_run,
    plan_with,
    run_context,
    run_models,
    silent,
    task_of,
    test_set,
    threads_of,
)
from edgekit.workflows.sustained import write_pictures


@typed_by_user
def bench(
    artifacts: Sequence[str] = (),
    *,
    target_names: Sequence[str] = (),
    data: str = "",
    metric: str = "",
    plan: dict[str, Any] | None = None,
    out: Path | None = None,
    resume: bool = False,
    shapes: Shapes | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Measure artifacts (RUN: all of its artifacts) on each target, interleaved; earlier results are replaced.

    `shapes`: input name → its sizes, batch included, for random inputs where an axis is open ("": the only input).
    `metric`: see `choose_metric`. `out` is the run folder that a foreign model is imported into; `resume` keeps
    identical measurements.
    """
    checked_metric(metric)
    outcome = Outcome()
    for ref in [ensure_imported(references.resolve(word, out), progress, say, shapes) for word in (artifacts or [""])]:
        store = ref.store
        chosen = [store.get(ref.name)] if ref.name else run_models(store)
        skipped = set(store.names()) - {a.name for a in store.current()} if not ref.name else set()
        for name in sorted(skipped):
            say(f"  skipped   {name}: damaged, or made from an artifact that has been replaced since")
        context = run_context(
            store, task_of(chosen), target_names or ["host"], plan_with(Plan(), plan), Gates(), progress, say
        )
        samples = context.set_for(data, chosen[0]) if data else test_set(context, chosen, shapes)
        choose_metric(context, samples, chosen[0], metric)
        if not context.plan.latency and samples.labels is None:
            why = f"{samples.name} has no labels, so there is no accuracy, and --no-latency leaves out the rest"
            raise InputError("there is nothing to measure", why, "pass --data SET with labels, or measure the latency")
        with open_run(store):
            for target in context.targets:
                targets.device(target)
                check_runnable(chosen, target)
            plans = [replace(context.plan, threads=threads) for threads in threads_of(context.plan, plan)]
            parallel.measure(chosen, context.targets, samples, context, plans, reuse=resume)
            write_pictures(store, context.outcome.measurements, say)
        outcome.artifacts += chosen
        outcome.measurements += context.outcome.measurements
        outcome.failures += context.outcome.failures
        outcome.notes += context.outcome.notes
        outcome.sessions += context.outcome.sessions
    return outcome
