"""`edgekit import SOURCE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option


@edgekit_command("import", short_help="Bring a model from elsewhere into a run.")
@click.argument("source")
@click.option("--weights", default="", metavar="F", help="A .safetensors file or plain checkpoint to fill it with.")
@click.option("--task", default="", metavar="T", help="What it is for; needed for a network by name, like cnn.")
@out_option
def command(source: str, weights: str, task: str, out: Path | None, reporter: Reporter) -> CommandResult:
    """Bring SOURCE into a run, where every other command takes it: a file (.onnx, .tflite, OpenVINO's .xml, .pt2,
    .keras) or your own code, net.py:make or package.module:make, which is run. make() returns (module,
    example_inputs), or (module, example_inputs, {"ids": {1: "length"}}) where more than the batch is open."""
    from edgekit.workflows import import_

    outcome = import_.import_model(
        source, weights=weights, task=task, out=out, progress=reporter.progress, say=reporter.say
    )

    def show() -> None:
        for made in outcome.artifacts:
            click.echo(f"{made.path}")

    return CommandResult.of(outcome, show)
