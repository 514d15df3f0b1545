"""`edgekit predict ARTIFACT INPUT…`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.cli.shared.output import echo


@edgekit_command("predict", short_help="Run an artifact on single inputs.")
@click.argument("artifact")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="The target to run on.")
@click.option(
    "--draw",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="For a detector: write each image with its boxes into this folder.",
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="How many classes to show.")
@click.option(
    "--new-tokens",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Of a language model: tokens to generate.",
)
def command(
    artifact: str,
    inputs: tuple[str, ...],
    target: str,
    draw: Path | None,
    top: int,
    new_tokens: int,
    reporter: Reporter,
) -> CommandResult:
    """Run ARTIFACT once per INPUT: a .npy file (one sample), a .npz, a table (each row), an image or sound file,
    SET:number (mnist:test:3, houses.csv:7), or for a model of texts the text itself (a pair of texts with a tab
    between). A detector's answer are boxes: class, score, and x, y, width and height in pixels of the image; a language
    model's the text that follows."""
    from edgekit.workflows import predict

    predictions = predict.predict(artifact, inputs, target, top, draw, new_tokens)

    def show() -> None:
        for prediction in predictions:
            echo(f"{prediction['input']}: {prediction['text']}")
            if drawn := prediction.get("drawn"):
                echo(f"  {drawn}")

    return CommandResult(show, result=predictions)
