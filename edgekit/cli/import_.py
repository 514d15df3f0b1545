"""`edgekit import SOURCE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, out_option, shape_option


@edgekit_command("import", short_help="Import a model from elsewhere into a run.")
@click.argument("source")
@click.option("--weights", default="", metavar="F", help="A .safetensors file or plain checkpoint to load.")
@click.option("--task", default="", metavar="T", help="Its task; required for a network by name, such as cnn.")
@shape_option
@out_option
def command(
    source: str, weights: str, task: str, out: Path | None, shapes: Shapes, reporter: Reporter
) -> CommandResult:
    """Import SOURCE into a run, so that every other command accepts it: a file (.onnx, .tflite, OpenVINO's .xml, .pt2,
    .keras) or your own code, net.py:make or package.module:make, which edgekit runs. make() returns (module,
    example_inputs), or (module, example_inputs, {"ids": {1: "length"}}) if axes other than the batch are dynamic."""
    from edgekit.workflows import import_

    outcome = import_.import_model(
        source, weights=weights, task=task, out=out, shapes=shapes, progress=reporter.progress, say=reporter.say
    )

    def show() -> None:
        for artifact in outcome.artifacts:
            click.echo(f"{artifact.path}")

    return CommandResult.of(outcome, show)
