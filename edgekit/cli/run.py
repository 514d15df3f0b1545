"""`edgekit run [RECIPE]`: every step of a recipe."""

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


@edgekit_command("run", short_help="Train, export, quantize, verify, measure and compare, as a recipe says.")
@click.argument("recipe", required=False, default="mnist")
@click.option(
    "--set", "settings", multiple=True, metavar="STEP.FIELD=VALUE", help="Change a field of the recipe; repeat."
)
@click.option("--strict", is_flag=True, help="An undecided accuracy budget fails, too.")
@click.option("--dry-run", is_flag=True, help="Print what would be made and what reused; make nothing.")
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
    """Make, verify and measure every artifact of a recipe, then compare them. RECIPE is a shipped recipe (mnist,
    fashion-mnist, text-classification, keyword-spotting, …: docs/tasks) or a .toml file; default: mnist.

    Artifacts that have not changed since the last run are reused. A failed check stops only its own chain.
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
        plan_rows = run.dry_run(resolved, store)

        def show() -> None:
            plan_table = tables.table(*map(tables.words, ("", "artifact", "step")))
            for name, step, state in plan_rows:
                tables.add(plan_table, state, name, step)
            tables.show([plan_table])

        return CommandResult(show, result=[{"artifact": n, "step": s, "would_be": w} for n, s, w in plan_rows])
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
    return CommandResult.of(
        outcome, lambda: terminal(outcome.measurements, reused=outcome.reused, folder=folder, advise=True)
    )
