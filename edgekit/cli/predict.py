"""`edgekit predict ARTIFACT INPUT…`."""

from __future__ import annotations

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command


@edgekit_command("predict", short_help="One answer, as the device would give it.")
@click.argument("artifact")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="Where to run it.")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="How many classes to show.")
def command(artifact: str, inputs: tuple[str, ...], target: str, top: int, reporter: Reporter) -> CommandResult:
    """Run ARTIFACT once per INPUT: a .npy file (one sample), a .npz, an image or sound file, SET:number
    (mnist:test:3, houses.csv:7), or the text itself where the model takes text (two with a tab between)."""
    from edgekit.workflows import predict

    found = predict.predict(artifact, inputs, target, top)

    def show() -> None:
        for entry in found:
            click.echo(f"{entry['input']}: {entry['text']}")

    return CommandResult(show, result=found)
