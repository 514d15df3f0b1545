"""`edgekit predict ARTIFACT INPUT…`."""

from __future__ import annotations

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.cli.shared.output import echo


@edgekit_command("predict", short_help="Run an artifact on single inputs.")
@click.argument("artifact")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="The target to run on.")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="How many classes to show.")
def command(artifact: str, inputs: tuple[str, ...], target: str, top: int, reporter: Reporter) -> CommandResult:
    """Run ARTIFACT once per INPUT: a .npy file (one sample), a .npz, a table (each row), an image or sound file,
    SET:number (mnist:test:3, houses.csv:7), or for a model of texts the text itself (a pair of texts with a tab
    between)."""
    from edgekit.workflows import predict

    predictions = predict.predict(artifact, inputs, target, top)

    def show() -> None:
        for prediction in predictions:
            echo(f"{prediction['input']}: {prediction['text']}")

    return CommandResult(show, result=predictions)
