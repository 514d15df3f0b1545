"""`run`: a recipe's artifacts are made, verified, measured and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import tasks
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.files import write_atomically
from edgekit.core.progress import Progress, quiet
from edgekit.core.registry import step_name
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context
from edgekit.measure import parallel, targets
from edgekit.measure.context import Outcome, RunContext, log
from edgekit.report import html
from edgekit.runs import graph
from edgekit.runs import recipe as recipes
from edgekit.runs.recipe import STARTER, Recipe
from edgekit.runs.references import RUNS
from edgekit.runs.store import RECIPE, REPORT, Store
from edgekit.workflows.compare import lineage
from edgekit.workflows.make import check_installed, make
from edgekit.workflows.setup import Say, flow_for, plan_with, silent, threads_of, working
from edgekit.workflows.sustained import write_pictures


def run(
    recipe: str = STARTER,
    *,
    out: Path | None = None,
    settings: Sequence[str] = (),
    target_names: Sequence[str] = (),
    plan: dict[str, Any] | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """The whole flow of a recipe (a shipped name or a .toml): make, verify, measure. Reuses what has not changed.

    Raises RecipeError before any work where the recipe cannot work, Missing where a package is not installed.
    """
    made = resolved_recipe(recipe, settings, target_names, plan)
    store = Store(out or RUNS / recipes.find(recipe).stem)
    task = tasks.load(made.task)
    context = flow_for(store, task, made.targets, made.plan, made.gates, progress, say)
    check_installed(graph.nodes(made, context.targets))
    for target in context.targets:
        targets.device(target)  # one that nothing can reach is refused before any work
    with working(store):
        import tomli_w

        write_atomically(store.path / RECIPE, tomli_w.dumps(recipes.to_table(made)))
        context.val = context.set(f"{task.name}:val")
        outcome = make_and_measure(made, context, context.set(f"{task.name}:test"))
        write_pictures(store, outcome.measurements, say)
        write_atomically(
            store.path / REPORT,
            html(outcome.measurements, f"edgekit run {recipe}", lineage.gather([store.path], outcome.measurements)),
        )
        return outcome


def resolved_recipe(
    recipe: str, settings: Sequence[str] = (), target_names: Sequence[str] = (), plan: dict[str, Any] | None = None
) -> Recipe:
    """The recipe with everything from the command line in it, checked."""
    made = recipes.load(recipe, settings, {"targets": list(target_names)} if target_names else None)
    if len(threads_of(made.plan, plan)) > 1:
        raise InputError("a run measures with one number of threads", next="sweep with edgekit bench --threads 1,2,4")
    return replace(made, plan=plan_with(made.plan, plan))


def would_do(recipe: Recipe, store: Store) -> list[tuple[str, str, str]]:
    """(name, step, "made" or "reused") for each artifact of the recipe, nothing done."""
    task = tasks.load(recipe.task)
    found = []
    made: dict[str, Artifact | None] = {}
    for node in graph.nodes(recipe, [targets.load(name) for name in recipe.targets]):
        inputs = {role: made.get(name) for role, name in node.parents.items()}
        kept = None
        if all(inputs.values()):
            present = {role: artifact for role, artifact in inputs.items() if artifact}
            like = present["parent"].inputs if "parent" in present else ()
            data = {role: store.set(text, like) for role, text in node.step.sets(task).items()}
            step_context = Context(task, data, quiet, log)
            kept = store.reusable(node.name, store.id(node.step, present, step_context))
        made[node.name] = kept
        found.append((node.name, step_name(node.step), "reused" if kept else "made"))
    return found


def make_and_measure(recipe: Recipe, context: RunContext, data: SampleSet) -> Outcome:
    """Make, verify and measure (over `data`) all of a recipe; only what changed is done again.

    Raises RecipeError or Missing before any work; an arrow that breaks stops its chain only, and is in `failures`.
    """
    nodes = graph.nodes(recipe, context.targets)
    check_installed(nodes)
    made = make(nodes, context, {})
    parallel.measure(list(made.values()), context.targets, data, context, [context.plan], reuse=True)
    return context.outcome
