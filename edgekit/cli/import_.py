"""`edgekit import SOURCE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, out_option, shape_option
from edgekit.cli.shared.output import echo


@edgekit_command("import", short_help="Import a model from elsewhere into a run.")
@click.argument("source")
@click.option("--weights", default="", metavar="F", help="A .safetensors file or plain checkpoint to load.")
@click.option("--task", default="", metavar="T", help="Its task; required for a network by name, such as cnn.")
@click.option("--model", default="", metavar="M", help="The network whose weights SOURCE holds: net.py:make, or cnn.")
@click.option(
    "--signature",
    default="",
    metavar="SIG",
    help="What its inputs are made from and its outputs mean: sig.toml, preprocessor_config.json, or code.",
)
@click.option("--classes", default="", metavar="C", help="Its class names: a folder of class folders, a .txt, or code.")
@click.option("--adapter", default="", metavar="DIR", help="Merge the LoRA adapters that peft wrote to DIR.")
@shape_option
@out_option
def command(
    source: str,
    weights: str,
    task: str,
    model: str,
    shapes: Shapes,
    signature: str,
    classes: str,
    adapter: str,
    out: Path | None,
    reporter: Reporter,
) -> CommandResult:
    """Import SOURCE into a run, so that every other command accepts it: a file (.onnx, .tflite, OpenVINO's .xml, .pt2,
    .keras), weights with --model, or your own code, net.py:make or package.module:make, which edgekit runs. make()
    returns (module, example_inputs), or (module, example_inputs, {"ids": {1: "length"}}) if axes other than the batch
    are dynamic. A class with --shape needs no make().

    SIG in code is a transform of torchvision, its weights, timm's data configuration, an image processor of Hugging
    Face, or a function that returns one: net.py:transform, torchvision.models:ResNet18_Weights.DEFAULT. Without it,
    what the file or the network says about itself is read."""
    from edgekit.workflows import import_

    outcome = import_.import_model(
        source,
        weights=weights,
        task=task,
        model=model,
        shapes=shapes,
        signature=signature,
        classes=classes,
        adapter=adapter,
        out=out,
        progress=reporter.progress,
        say=reporter.say,
    )

    def show() -> None:
        for artifact in outcome.artifacts:
            echo(f"{artifact.path}")

    return CommandResult.of(outcome, show)
