"""Gates against a baseline. For latency, the baseline's artifact and the new one are measured again, interleaved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import sets
from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.measurement import Latency, Measurement, Ratio
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.core.user_code import typed_by_user
from edgekit.measure import targets
from edgekit.measure.execute import execute_all
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.workflows.compare.limits import (
    Gate,
    Limit,
    check_applied,
    check_metrics,
    evaluate,
    latest,
    missing_rows,
    not_measured,
    pair_rows,
    row_key,
)
from edgekit.workflows.compare.rows import is_artifact, is_over, rows_of, run_title
from edgekit.workflows.setup import Say, plan_with, run_context, silent, task_of, test_set

#: samples that latency is measured over
GATE_SAMPLES = 64


@typed_by_user
def gate(
    sources: Sequence[str],
    against: str,
    fail_if: Sequence[str],
    *,
    set: str = "",
    metric: str = "",
    plan: dict[str, Any] | None = None,
    again: bool = True,
    progress: Progress = quiet,
    say: Say = silent,
) -> list[Gate]:
    """Check the limits in `fail_if` on every row that the baseline `against` (a run folder or results file) has, too.

    A source is a run folder, a results file, or an artifact, which has to be in the baseline.
    `set`: only rows over this test set, the start of its sha256; `metric`: only those in this metric. Rows of one name
    from several sources are all checked.

    Latencies of different sessions cannot be compared: with `again`, the baseline's artifact and the one that replaced
    it are measured again, interleaved. If either is not available, latency is undecided; the other limits are checked.
    A row of the baseline that was not measured now is undecided. Raises InputError.
    """
    limits = [Limit.parse(text) for text in fail_if]
    words = list(dict.fromkeys(sources)) or [str(references.newest_run())]
    old = [m for m in rows_of(against) if is_over(m, set, metric)]
    rows = {word: [m for m in rows_of(word) if is_over(m, set, metric)] for word in words}
    new = [(word, m) for word in words for m in latest(rows[word]).values()]
    if all(is_artifact(Path(word)) for word in words):
        old = [m for m in old if m.artifact in {m.artifact for _, m in new}]
    source_of = {id(m): word for word, m in new}
    row_pairs = pair_rows(old, [m for _, m in new])
    paired = {source_of[id(m)] for _, m in row_pairs}
    if unknown := [word for word in words if is_artifact(Path(word)) and word not in paired]:
        why = f"{against} has no row of that name, target, runtime and plan"
        raise InputError(f"nothing checks {unknown[0]}", why, "leave it out, or measure the baseline with it")
    check_metrics(limits, row_pairs)
    ratios: dict[int, Ratio | str] = {}
    if any(limit.quantity == "p50" for limit in limits):
        for a, b in row_pairs:
            if a.latency_ms and b.latency_ms and (a.mismatch_reason or not b.mismatch_reason):
                ratios[id(b)] = _latency_ratio(a, b, against, source_of[id(b)], plan, again, progress, say)
    count = Counter(row_key(b) for _, b in row_pairs)
    verdicts: list[Gate | None] = []
    for a, b in row_pairs:
        name = f"{run_title(source_of[id(b)])}/{b.artifact}" if count[row_key(b)] > 1 else b.artifact
        found = (evaluate(limit, (a, b), ratios.get(id(b))) for limit in limits)
        verdicts += [replace(verdict, artifact=name) for verdict in found if verdict]
    verdicts += [not_measured(limit, m) for m in missing_rows(old, [m for _, m in new]) for limit in limits]
    gates = [verdict for verdict in verdicts if verdict]
    check_applied(limits, gates)
    return gates


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
    """The ratio of the new artifact's p50 to the old one's, measured interleaved; or why it cannot be measured."""
    assert old.latency_ms and new.latency_ms
    if new.provenance != "measured":
        return f"its latency is {new.provenance}"
    if (old.session, old.target) == (new.session, new.target) and not (old.invalid or new.invalid):
        return statistics.latency_ratio(new.latency_ms, old.latency_ms, paired=True)
    if not again:
        return "it was not measured again"
    old_artifact, new_artifact = _stored_artifact(old, against), _stored_artifact(new, source)
    if old_artifact is None or new_artifact is None:
        which = "the baseline's artifact" if old_artifact is None else "the artifact"
        return f"{which} is not available, so it cannot be measured again"
    latency = new.latency_ms
    full_plan = replace(plan_with(_plan_of(latency), plan), samples=0)
    try:
        target = targets.load(new.target)
    except InputError as error:
        return str(error)
    store = Store(new_artifact.path.parent)
    context = run_context(store, task_of([new_artifact]), [new.target], full_plan, Gates(), progress, say)
    data = sets.take(test_set(context, [new_artifact]), GATE_SAMPLES)
    say(f"  measuring {new.artifact} on {new.target}, before and now, interleaved …")
    artifacts = [(old_artifact, old.runtime), (new_artifact, new.runtime)]
    runs = execute_all(artifacts, target, data, full_plan, outputs=False)
    if disturbed := [reason for run in runs for reason in run.invalid]:
        return f"the measurement was disturbed: {disturbed[0]}"
    before, now = (statistics.latency(r.processes, full_plan.threads, full_plan.batch, r.clock) for r in runs)
    return statistics.latency_ratio(now, before, paired=True)


def _plan_of(latency: Latency) -> Plan:
    plan = Plan(threads=latency.threads, batch=latency.batch)
    return replace(plan, prompt=latency.prompt, new_tokens=latency.new_tokens) if latency.new_tokens else plan


def _stored_artifact(m: Measurement, source: str) -> Artifact | None:
    """The artifact that was measured, if it is in the folder of the results and has not changed; else None."""
    path = Path(source)
    store = Store(path if path.is_dir() and not is_artifact(path) else path.parent)
    try:
        artifact = store.get(m.artifact)
    except InputError:
        return None
    return artifact if artifact.id == m.id else None
