"""`edgekit inspect MODEL`."""

from __future__ import annotations

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command


@edgekit_command("inspect", short_help="What a model file holds, what can run it, and why it may be slow.")
@click.argument("model", required=False)
@click.option("--layers", type=click.IntRange(0), default=5, metavar="N", help="How many of the heaviest to show.")
@click.option("--to", "formats", default="", metavar="FORMATS", help="Try these exports too; nothing of them is kept.")
@click.option("--times", "timed", is_flag=True, help="Run it on random inputs: time by operator, against float.")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="Where --times runs it.")
def command(
    model: str | None, layers: int, formats: str, timed: bool, target: str, reporter: Reporter
) -> CommandResult:
    """Inputs and outputs, operators, parameters, MACs, memory by layer, which runtimes and targets cannot run it, and
    what may make it slow. MODEL is an artifact, a model's file or net.py:make; it is not run but for --times."""
    from edgekit.report import tables
    from edgekit.workflows.inspect import model as models

    found = models.inspect(model)
    wanted = [word.strip() for word in formats.split(",") if word.strip()]
    found["conversions"], failures = models.conversions(model, wanted)
    if timed:
        from edgekit.workflows.inspect.operator_times import operator_times

        found["times"] = operator_times(model, target)

    def show() -> None:
        tables.show(models.shown(found, layers))

    return CommandResult(show, result=found, failures=failures)
