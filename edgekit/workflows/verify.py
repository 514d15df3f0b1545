"""`verify`: check conversions again."""

from __future__ import annotations

from edgekit.core import registry
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome
from edgekit.measure.verify import Verifier
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.workflows import make
from edgekit.workflows.import_ import ensure_imported
from edgekit.workflows.inspect.layers import compare_layers
from edgekit.workflows.setup import Say, open_run, run_context, run_models, silent, task_of, validation_set


def verify(
    artifact: str | None = None,
    *,
    against: str = "",
    val: str = "",
    target: str = "host",
    layers: bool = False,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Check the conversion of one artifact, or of all in a run, again. Failures are in the outcome.

    With `layers`, or after a failure, each operator is compared with the float model's: `layers.json` of the artifact.
    """
    ref = ensure_imported(references.resolve(artifact), progress, say)
    store = ref.store
    chosen = [store.get(ref.name)] if ref.name else run_models(store)
    context = run_context(store, task_of(chosen), [target], Plan(), Gates(), progress, say)
    context.val = validation_set(context, val, chosen[0])
    with open_run(store):
        verifier = Verifier(store, context.targets[0], context.val, context.scorer, context.gates, context.plan)
        other = store.get(against) if against else None
        for item in chosen:
            (item.path / "verify.json").unlink(missing_ok=True)
            finding = verifier.check(item, registry.load("steps", item.step).preserves, other)
            say(f"  {item.name:<20} {make.describe(finding)}")
            if layers or finding.failed in ("parity", "budget"):
                compare_layers(store, item, other, context.val, progress)
            context.outcome.artifacts.append(item)
            context.outcome.findings.append(finding)
            if error := finding.error():
                context.outcome.failures.append(error)
    return context.outcome
