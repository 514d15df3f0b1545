"""`edgekit optimize [TASK|ARTIFACT]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option, plan_of, plan_options
from edgekit.cli.shared.output import echo
from edgekit.cli.shared.quantities import LATENCY, POINTS, SIZE
from edgekit.core.errors import InputError


def _choices(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """ "width=0.5,1" → {"width": ("0.5", "1")}."""
    choices: dict[str, tuple[str, ...]] = {}
    for text in value:
        name, separator, words = text.partition("=")
        values = tuple(word.strip() for word in words.split(",") if word.strip())
        if not separator or not values:
            raise click.BadParameter(f"{text!r} is not DIMENSION=V,…, for example width=0.5,1", ctx, parameter)
        choices[name.strip().replace("-", "_")] = values
    return choices


@edgekit_command("optimize", short_help="Search for the best artifact within a budget, measured on the target.")
@click.argument("what", metavar="[TASK|ARTIFACT]", required=False)
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="The target to measure on.")
@click.option(
    "--max-drop", "max_drop_pp", type=POINTS, metavar="PP", help="Accuracy budget in percentage points (default 0.5)."
)
@click.option("--max-latency", type=LATENCY, metavar="TIME", help="Highest p50, such as 5ms.")
@click.option("--max-size", type=SIZE, metavar="SIZE", help="Largest file, such as 200kB.")
@click.option("--trials", type=click.IntRange(1), default=30, help="Number of trials (default 30).")
@click.option(
    "--try",
    "choices",
    multiple=True,
    callback=_choices,
    metavar="D=V,…",
    help="Search these values only, such as width=0.5,1; repeat.",
)
@click.option("--storage", default="", metavar="URL", help="Optuna storage (default: a file in the run folder).")
@click.option("--seed", type=int, default=0, help="Seed of the suggestions (default 0).")
@click.option("--epochs", type=click.IntRange(1), default=5, help="Training epochs of each network (default 5).")
@click.option("--train-samples", type=click.IntRange(0), default=0, help="Train on the first N samples only (0: all).")
@click.option("--calibration", default="", metavar="SET", help="Calibration samples (default: training data).")
@click.option("--val", default="", metavar="SET", help="Validation samples (default: the task's validation split).")
@plan_options
@out_option
def command(
    what: str | None,
    target: str,
    max_drop_pp: float | None,
    max_latency: float | None,
    max_size: float | None,
    trials: int,
    choices: dict[str, tuple[str, ...]],
    storage: str,
    seed: int,
    epochs: int,
    train_samples: int,
    calibration: str,
    val: str,
    out: Path | None,
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Search for the smallest, fastest artifact that keeps its accuracy: over networks and their training (TASK), or
    over precisions, runtimes and threads (ARTIFACT; default: the newest run's float model). Each trial is measured on
    the target. The same command resumes; Ctrl-C keeps the Pareto front so far. Exit 1 if nothing meets the budget."""
    from edgekit.report import terminal
    from edgekit.runs import named_sets
    from edgekit.workflows import optimize
    from edgekit.workflows.optimize.search import report
    from edgekit.workflows.optimize.trial import Budget

    if max_drop_pp is not None and calibration and not (val and named_sets.has_labels(val)):
        raise InputError("--max-drop requires labels", "accuracy is computed from labels", "pass --val SET with labels")
    budget = Budget(0.5 if max_drop_pp is None else max_drop_pp, max_latency, int(max_size) if max_size else None)
    outcome = optimize.optimize(
        what,
        target=target,
        budget=budget,
        trials=trials,
        choices=choices,
        storage=storage,
        seed=seed,
        epochs=epochs,
        samples=train_samples,
        calibration=calibration,
        val=val,
        plan=plan_of(options),
        out=out,
        progress=reporter.progress,
        say=reporter.say,
    )
    result = outcome.search
    assert result is not None

    def show() -> None:
        if result.measured:
            terminal(result.measured)
        for text in report(result):
            echo(text)

    return CommandResult.of(outcome, show, result.to_json())
