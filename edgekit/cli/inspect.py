"""`edgekit inspect MODEL`."""

from __future__ import annotations

import click

from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, shape_option


@edgekit_command("inspect", short_help="Show what a model contains, what can run it, and why it may be slow.")
@click.argument("model", required=False)
@click.option("--layers", type=click.IntRange(0), default=5, metavar="N", help="Show the N layers with most memory.")
@click.option(
    "--to", "formats", default="", metavar="FORMATS", help="Also try these exports; their files are not kept."
)
@click.option("--times", "timed", is_flag=True, help="Run it on random inputs: time per operator, against float.")
@shape_option
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="The target that --times runs on.")
def command(
    model: str | None, layers: int, formats: str, timed: bool, shapes: Shapes, target: str, reporter: Reporter
) -> CommandResult:
    """Show inputs and outputs, operators, parameters, MACs, memory by layer, which runtimes and targets cannot run it,
    and what may make it slow. MODEL is an artifact, a model file or net.py:make; it is run only with --times."""
    from edgekit.report import tables
    from edgekit.workflows.inspect import model as models

    report = models.inspect(model, shapes)
    exports = [word.strip() for word in formats.split(",") if word.strip()]
    report["conversions"], failures = models.conversions(model, exports, shapes)
    if timed:
        from edgekit.workflows.inspect.operator_times import operator_times

        report["times"] = operator_times(model, target, shapes)

    def show() -> None:
        tables.show(models.shown(report, layers))

    return CommandResult(show, result=report, failures=failures)
