"""`verify`: check conversions again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.core.temporary import temporary_folder
from edgekit.core.user_code import typed_by_user
from edgekit.measure.context import Outcome, RunContext
from edgekit.measure.verify import FINDING, Finding, Verifier
from edgekit.runs import references, written
from edgekit.runs.recipe import Gates
from edgekit.runs.shapes import Shapes
from edgekit.runs.store import ARTIFACT, Store
from edgekit.workflows import make
from edgekit.workflows.import_ import ensure_imported
from edgekit.workflows.inspect.layers import compare_layers
from edgekit.workflows.setup import (
    Say,
    checked_metric,
    choose_metric,
    open_run,
    run_context,
    run_models,
    silent,
    task_of,
    validation_set,
)


@typed_by_user
def verify(
    artifact: str | None = None,
    *,
    against: str = "",
    val: str = "",
    metric: str = "",
    target: str = "host",
    layers: bool = False,
    shapes: Shapes | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Check the conversion of one artifact, or of all in a run, again. Failures are in the outcome.

    `against`: an artifact of the run, or any model file, whose inputs and outputs are matched by name, else by position
    and shape. `shapes`: input name → its sizes, batch included, for random inputs where an axis is open ("": the only
    input). With `layers`, or after a failure, each operator is compared with the float model's: `layers.json` of the
    artifact. `metric`: see `choose_metric`. Raises InputError if the models or the samples do not fit.
    """
    checked_metric(metric)
    ref = ensure_imported(references.resolve(artifact), progress, say, shapes)
    store = ref.store
    chosen = [store.get(ref.name)] if ref.name else run_models(store)
    context = run_context(store, task_of(chosen), [target], Plan(), Gates(), progress, say)
    context.val = validation_set(context, val, chosen[0], "", shapes)
    choose_metric(context, context.val, chosen[0], metric)
    verifier = None
    if context.val is not None:
        verifier = Verifier(store, context.targets[0], context.val, context.scorer, context.gates, context.plan)
    with open_run(store), _other(store, against, progress, say) as other:
        for item in chosen:
            finding = _check(item, other, verifier, context)
            say(f"  {item.name:<20} {make.describe(finding)}")
            if context.val is not None and (layers or finding.failed in ("parity", "budget")):
                compare_layers(store, item, other, context.val, progress)
            context.outcome.artifacts.append(item)
            context.outcome.findings.append(finding)
            if error := finding.error():
                context.outcome.failures.append(error)
    return context.outcome


@contextmanager
def _other(store: Store, against: str, progress: Progress, say: Say) -> Iterator[Artifact | None]:
    """The model to compare with: an artifact of this run, else of another, else a file, imported for the while."""
    if not against or (store.path / against / ARTIFACT).is_file():
        yield store.get(against) if against else None
        return
    with temporary_folder() as folder:
        ref = references.resolve(against, folder / "run")
        yield dataclasses.replace(ensure_imported(ref, progress, say).artifact(), name=against)


def _check(item: Artifact, other: Artifact | None, verifier: Verifier | None, context: RunContext) -> Finding:
    preserves = registry.load("steps", item.step).preserves
    if other is not None and preserves == "nothing":
        preserves = "accuracy" if item.kind.precision else "outputs"
    if verifier is None:
        return Finding(item.name, item.id, "", item.step, preserves, unverified=context.unverified)
    written.remove(item.path.parent, f"{item.path.name}/{FINDING}")
    finding = context.check(verifier, item, preserves, other)
    for note in finding.matched:
        context.note(f"{item.name}: {note}")
    return finding
