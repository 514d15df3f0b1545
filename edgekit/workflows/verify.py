"""`verify`: conversions are checked again."""

from __future__ import annotations

from edgekit.core import registry
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome
from edgekit.measure.verify import Verifier
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.workflows import make
from edgekit.workflows.import_ import stored
from edgekit.workflows.inspect.layers import compare_layers
from edgekit.workflows.setup import Say, finished, flow_for, silent, task_of, validation, working


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
    """Check arrows again: one artifact's, or every one in a run. Failures are in the outcome.

    `layers`, or a failure: how near each operator is to the float model's goes into `layers.json` beside the artifact.
    """
    ref = stored(references.resolve(artifact), progress, say)
    store = ref.store
    chosen = [store.get(ref.name)] if ref.name else finished(store)
    context = flow_for(store, task_of(chosen), [target], Plan(), Gates(), progress, say)
    context.val = validation(context, val, chosen[0])
    with working(store):
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
