"""`edgekit export [ARTIFACT]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, out_option, shape_option
from edgekit.cli.shared.output import echo


def split(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """ "onnx,tflite" → ("onnx", "tflite")."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


@edgekit_command("export", short_help="Export a trained model to other formats, verified.")
@click.argument("artifact", required=False)
@click.option("--to", callback=split, default="", metavar="F,…", help="Formats (default: every installed one).")
@click.option("--val", default="", metavar="SET", help="Validation samples (default: the task's validation split).")
@click.option("--opset", type=int, metavar="N", help="ONNX: the operator set, 18 to 23 (default 20).")
@click.option(
    "--dynamic", metavar="AXES", help="ONNX, OpenVINO: axes that stay open: batch, none, or x:2,3 (default: all)."
)
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="A fixed number of samples at once.")
@click.option(
    "--layout", type=click.Choice(["nhwc"]), help="Images go in as NHWC; transposes are folded away where possible."
)
@click.option(
    "--embed-preprocessing",
    is_flag=True,
    help="The bytes of an image (uint8, NHWC) go in: scale, mean and std of the signature are in the model.",
)
@click.option(
    "--fold-padding",
    is_flag=True,
    help="TFLite: no padded tensors before depthwise convolutions: less memory on microcontrollers, but slower with "
    "XNNPACK.",
)
@shape_option
@out_option
def command(
    artifact: str | None,
    to: tuple[str, ...],
    val: str,
    out: Path | None,
    shapes: Shapes,
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Export ARTIFACT (RUN, or RUN/NAME; default: the newest run's float model) and compare its outputs with the
    original's on validation data."""
    from edgekit.workflows import export

    given = {name: value for name, value in options.items() if value}
    outcome = export.export(
        artifact, to=to, val=val, out=out, shapes=shapes, options=given, progress=reporter.progress, say=reporter.say
    )

    def show() -> None:
        for artifact in outcome.artifacts:
            echo(f"{artifact.path}")

    return CommandResult.of(outcome, show)
