"""`optimize`: a search under a budget, for a task or an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit import sets, tasks
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.core.user_code import typed_by_user
from edgekit.measure import targets
from edgekit.measure.context import RunContext
from edgekit.runs import references, written
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.references import RUNS
from edgekit.runs.store import Store
from edgekit.workflows import make
from edgekit.workflows.chains import open_context
from edgekit.workflows.optimize import claims
from edgekit.workflows.optimize.finish import OptimizeOutcome
from edgekit.workflows.optimize.search import STORAGE, TRIALS, Search
from edgekit.workflows.optimize.space import Space, build
from edgekit.workflows.optimize.storage import Storage, local
from edgekit.workflows.optimize.trial import Budget
from edgekit.workflows.setup import Say, is_task, open_run, plan_with, run_context, silent

#: seconds that the database in the run folder is waited for
LOCKED_S = 30.0


@typed_by_user
def optimize(
    what: str | None = None,
    *,
    target: str = "host",
    budget: Budget | None = None,
    trials: int = TRIALS,
    choices: Mapping[str, Sequence[str]] | None = None,
    storage: str = "",
    seed: int = 0,
    epochs: int = 5,
    samples: int = 0,
    calibration: str = "",
    val: str = "",
    plan: dict[str, Any] | None = None,
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> OptimizeOutcome:
    """Search under a budget, for a task (its networks are trained: `epochs`, on `samples`, 0 for all) or an artifact.

    `choices`: dimension → values that replace the default ones. The outcome's `search` holds all trials, the Pareto
    front and the recommended artifact; if no trial is within the budget, the trial nearest to it, and a failure. An
    interrupted search returns its results so far. `storage`: the URL of a database that several workers share; it is
    opened before anything else. Raises InputError for what cannot be searched, Missing, DeviceError.
    """
    shared = Storage(storage, claims.prepare, say) if storage else None
    budget = budget or Budget()
    fields = {"calibration": calibration} if calibration else {}
    start, context = _start_and_context(what, target, budget, val, fields, out, progress, say)
    context.plan = plan_with(Plan(), plan)
    training = {"epochs": epochs, "samples": samples, "seed": seed}
    calibrated = context.task is not None or bool(calibration)
    if not calibrated:
        say("  warning   int8 is not tried: it needs calibration samples (--calibration SET)")
    space = build(context.targets[0], context.task, start, choices or {}, fields, training, calibrated)
    targets.device(context.targets[0])
    with open_run(context.store):
        database = shared or Storage(local(written.growing(context.store.path, STORAGE)), patience_s=LOCKED_S)
        if start is None:
            assert context.task is not None
            context.val = context.set(f"{context.task.name}:val")
        assert context.val is not None
        context.val, confirmation = sets.halves(context.val)
        test = context.set(f"{context.task.name}:test") if context.task else confirmation
        title = f"edgekit optimize {what or context.store.path.name}"
        search = Search(context, space, budget, confirmation, test, database, bool(storage), seed, trials, title)
        reference = context.store.root(start) if start else baseline_network(space, context)
        result = search.run(reference)
        outcome = OptimizeOutcome(**vars(context.outcome))
        outcome.search = result
        if result.artifact:
            outcome.artifacts = [result.artifact]
        outcome.measurements = result.measured
        failure = search.failure(result)
        outcome.failures = [failure] if failure else []
    return outcome


def _start_and_context(
    what: str | None,
    target: str,
    budget: Budget,
    val: str,
    fields: dict[str, Any],
    out: Path | None,
    progress: Progress,
    say: Say,
) -> tuple[Artifact | None, RunContext]:
    """The artifact to start from (None for a task), and the run context. Raises InputError."""
    gates = Gates(max_drop_pp=budget.max_drop_pp)
    if what and is_task(what):
        task = tasks.load(what)
        return None, run_context(Store(out or RUNS / tasks.stem(what)), task, [target], Plan(), gates, progress, say)
    ref = references.resolve(what, out)
    start, context = open_context(ref, gates, target, val, fields, progress, say)
    if context.val is None:
        raise InputError(f"{start.name} cannot be evaluated", context.unverified, "pass --val SET")
    if start.kind.precision:
        raise InputError(
            f"{start.name} is {start.kind.precision} already", "a search starts from float", "name a float artifact"
        )
    return start, context


def baseline_network(space: Space, context: RunContext) -> Artifact:
    """The task's network, trained with the default settings: the reference for accuracy drops."""
    point = space.point()
    step = space.train(point)
    if problems := list(step.check(context.task)):
        raise InputError("cannot train", "; ".join(problems), "fix the options")
    (name,) = space.names(point, [step])
    make.check_installed([Node(name, step, {})])
    return make.make_one(Node(name, step, {}), {}, context)
