"""`edgekit run [RECIPE]`: the whole flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import (
    CommandResult,
    Reporter,
    edgekit_command,
    out_option,
    plan_of,
    plan_options,
    target_option,
)


@edgekit_command("run", short_help="Train, export, quantize, verify, measure and compare: the whole flow of a recipe.")
@click.argument("recipe", required=False, default="mnist")
@click.option(
    "--set", "settings", multiple=True, metavar="STEP.FIELD=VALUE", help="Change a field of the recipe; repeat it."
)
@click.option("--strict", is_flag=True, help="An undecided accuracy budget fails, too.")
@click.option("--dry-run", is_flag=True, help="Print what would be made and what is reused; do nothing.")
@out_option
@target_option
@plan_options
def command(
    recipe: str,
    settings: tuple[str, ...],
    strict: bool,
    dry_run: bool,
    out: Path | None,
    target_names: tuple[str, ...],
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Make, verify and measure everything a recipe names, then compare. RECIPE is a shipped name (mnist,
    fashion-mnist, text-classification, keyword-spotting, …: docs/tasks) or a .toml file; left out: mnist.

    What has not changed since the last run is reused. A step whose check fails stops its own chain only.
    """
    from edgekit.report import tables, terminal
    from edgekit.runs import recipe as recipes
    from edgekit.runs.references import RUNS
    from edgekit.runs.store import Store
    from edgekit.workflows import run

    plan = plan_of(options)
    settings = (*settings, "gates.strict=true") if strict else settings
    if dry_run:
        resolved = run.resolved_recipe(recipe, settings, target_names, plan)
        store = Store(out or RUNS / recipes.find(recipe).stem)
        found = run.would_do(resolved, store)

        def show() -> None:
            planned = tables.table(*map(tables.words, ("", "artifact", "step")))
            for name, step, what in found:
                tables.add(planned, what, name, step)
            tables.show([planned])

        return CommandResult(show, result=[{"artifact": n, "step": s, "would_be": w} for n, s, w in found])
    folder = out or RUNS / recipes.find(recipe).stem
    reporter.say(f"edgekit run {recipe} in {folder}")
    outcome = run.run(
        recipe,
        out=out,
        settings=settings,
        target_names=target_names,
        plan=plan,
        progress=reporter.progress,
        say=reporter.say,
    )
    return CommandResult.of(outcome, lambda: terminal(outcome.measurements, reused=outcome.reused, folder=folder))
