"""`run`: make, verify, measure and report the artifacts of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import tasks
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.registry import step_name
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context
from edgekit.core.user_code import typed_by_user
from edgekit.measure import parallel, targets
from edgekit.measure.context import Outcome, RunContext, log
from edgekit.report import html
from edgekit.runs import graph, written
from edgekit.runs import recipe as recipes
from edgekit.runs.recipe import STARTER, Recipe
from edgekit.runs.references import RUNS
from edgekit.runs.store import RECIPE, REPORT, Store
from edgekit.workflows.compare import lineage
from edgekit.workflows.make import check_installed, make, raise_only
from edgekit.workflows.setup import Say, open_run, plan_with, run_context, silent, threads_of
from edgekit.workflows.sustained import write_pictures


@typed_by_user
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
    """Make, verify and measure a recipe (a shipped name or a .toml file). Reuses artifacts that have not changed.

    Raises RecipeError before any work if the recipe is invalid, Missing if a package is not installed.
    """
    resolved = resolved_recipe(recipe, settings, target_names, plan)
    store = Store(out or RUNS / recipes.find(recipe).stem)
    task = tasks.load(resolved.task)
    context = run_context(store, task, resolved.targets, resolved.plan, resolved.gates, progress, say)
    check_installed(graph.nodes(resolved, context.targets))
    for target in context.targets:
        targets.device(target)  # raises for an unknown kind of device before any work
    with open_run(store):
        import tomli_w

        written.write(store.path, RECIPE, tomli_w.dumps(recipes.to_table(resolved)))
        context.val = context.set(f"{task.name}:val")
        outcome = make_and_measure(resolved, context, context.set(f"{task.name}:test"))
        write_pictures(store, outcome.measurements, say)
        written.write(
            store.path,
            REPORT,
            html(outcome.measurements, f"edgekit run {recipe}", lineage.gather([store.path], outcome.measurements)),
        )
        return outcome


@typed_by_user
def resolved_recipe(
    recipe: str, settings: Sequence[str] = (), target_names: Sequence[str] = (), plan: dict[str, Any] | None = None
) -> Recipe:
    """The recipe with the options of the command line, checked."""
    loaded = recipes.load(recipe, settings, {"targets": list(target_names)} if target_names else None)
    if len(threads_of(loaded.plan, plan)) > 1:
        raise InputError("a run measures with one number of threads", next="edgekit bench RUN --threads 1,2,4")
    return replace(loaded, plan=plan_with(loaded.plan, plan))


def dry_run(recipe: Recipe, store: Store) -> list[tuple[str, str, str]]:
    """(name, step, "made" or "reused") for each artifact of the recipe; makes nothing."""
    task = tasks.load(recipe.task)
    rows = []
    artifacts: dict[str, Artifact | None] = {}
    for node in graph.nodes(recipe, [targets.load(name) for name in recipe.targets]):
        inputs = {role: artifacts.get(name) for role, name in node.parents.items()}
        stored = None
        if all(inputs.values()):
            present = {role: artifact for role, artifact in inputs.items() if artifact}
            like = present["parent"].inputs if "parent" in present else ()
            data = {role: store.set(text, like) for role, text in node.step.sets(task).items()}
            step_context = Context(task, data, quiet, log)
            stored = store.reusable(node.name, store.id(node.step, present, step_context))
        artifacts[node.name] = stored
        rows.append((node.name, step_name(node.step), "reused" if stored else "made"))
    return rows


def make_and_measure(recipe: Recipe, context: RunContext, data: SampleSet) -> Outcome:
    """Make, verify and measure (over `data`) all artifacts of a recipe that have changed.

    Raises RecipeError or Missing before any work; a failed conversion stops only its chain, and is in `failures`.
    """
    nodes = graph.nodes(recipe, context.targets)
    check_installed(nodes)
    artifacts = make(nodes, context, {})
    raise_only(context.outcome)
    parallel.measure(list(artifacts.values()), context.targets, data, context, [context.plan], reuse=True)
    return context.outcome
