"""Is anything worse than a baseline? Latencies are measured again, the baseline's artifact beside the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import sets
from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement, Ratio
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute_all
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.workflows.compare.limits import Gate, Limit, check_metrics, evaluate, missing_rows, pair_rows, row_key
from edgekit.workflows.compare.rows import rows_of
from edgekit.workflows.setup import Say, plan_with, run_context, silent, task_of, test_set

#: what a latency is gated over
GATE_SAMPLES = 64


def gate(
    sources: Sequence[str],
    against: str,
    fail_if: Sequence[str],
    *,
    plan: dict[str, Any] | None = None,
    again: bool = True,
    progress: Progress = quiet,
    say: Say = silent,
) -> list[Gate]:
    """Is anything worse than in `against` (a run folder or results file), beyond the limits in `fail_if`?

    Latencies of two sessions say little: with `again`, the baseline's artifact is measured anew beside the one that
    took its place, interleaved. Where either is not at hand, latency is undecided, and the rest is judged all the same.
    """
    limits = [Limit.parse(text) for text in fail_if]
    words = list(sources) or [str(references.newest_run())]
    old, new = rows_of(against), [(word, m) for word in words for m in rows_of(word)]
    found = pair_rows(old, [m for _, m in new])
    check_metrics(limits, found)
    for line in missing_rows(old, [m for _, m in new]):
        say(f"  missing   {line}")
    homes = {row_key(m): word for word, m in new}
    timed: dict[tuple[str, ...], Ratio | str] = {}
    if any(limit.quantity == "p50" for limit in limits):
        twins = [
            (a, b) for a, b in found if a.latency_ms and b.latency_ms and (a.mismatch_reason or not b.mismatch_reason)
        ]
        timed = {
            row_key(b): _latency_ratio(a, b, against, homes[row_key(b)], plan, again, progress, say) for a, b in twins
        }
    verdicts = (evaluate(limit, pair, timed.get(row_key(pair[1]))) for pair in found for limit in limits)
    return [verdict for verdict in verdicts if verdict]


def _latency_ratio(
    old: Measurement,
    new: Measurement,
    against: str,
    source: str,
    plan: dict[str, Any] | None,
    again: bool,
    progress: Progress,
    say: Say,
) -> Ratio | str:
    """p50 of the new artifact over that of the old one, measured side by side; or why that cannot be."""
    assert old.latency_ms and new.latency_ms
    if new.provenance != "measured":
        return f"its latency is {new.provenance}"
    if (old.session, old.target) == (new.session, new.target) and not (old.invalid or new.invalid):
        return statistics.latency_ratio(new.latency_ms, old.latency_ms, paired=True)
    if not again:
        return "it was not measured again"
    kept = [_stored_artifact(m, word) for m, word in ((old, against), (new, source))]
    if kept[0] is None or kept[1] is None:
        which = "the baseline's artifact" if kept[0] is None else "the artifact"
        return f"{which} is not at hand, so it cannot be measured again"
    latency = new.latency_ms
    wanted = replace(plan_with(Plan(threads=latency.threads, batch=latency.batch), plan), samples=0)
    try:
        target = targets.load(new.target)
    except InputError as error:
        return str(error)
    store = Store(kept[1].path.parent)
    context = run_context(store, task_of([kept[1]]), [new.target], wanted, Gates(), progress, say)
    data = sets.take(test_set(context, [kept[1]]), GATE_SAMPLES)
    say(f"  measuring {new.artifact} on {new.target}, before and now, side by side …")
    runs = execute_all([(kept[0], old.runtime), (kept[1], new.runtime)], target, data, wanted, outputs=False)
    if disturbed := [reason for run in runs for reason in run.invalid]:
        return f"the measurement was disturbed: {disturbed[0]}"
    before, now = (statistics.latency(run.processes, wanted.threads, wanted.batch) for run in runs)
    return statistics.latency_ratio(now, before, paired=True)


def _stored_artifact(m: Measurement, source: str) -> Artifact | None:
    """The artifact that was measured, where it lies beside its results and is still the same."""
    path = Path(source)
    store = Store(path if path.is_dir() else path.parent)
    try:
        artifact = store.get(m.artifact)
    except InputError:
        return None
    return artifact if artifact.id == m.id else None
