"""`edgekit export [ARTIFACT]`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, out_option, shape_option


def split(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """ "onnx,tflite" → ("onnx", "tflite")."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


@edgekit_command("export", short_help="Export a trained model to other formats, verified.")
@click.argument("artifact", required=False)
@click.option("--to", callback=split, default="", metavar="F,…", help="Formats (default: every installed one).")
@shape_option
@out_option
def command(
    artifact: str | None, to: tuple[str, ...], out: Path | None, shapes: Shapes, reporter: Reporter
) -> CommandResult:
    """Export ARTIFACT (RUN, or RUN/NAME; default: the newest run's float model) and compare its outputs with the
    original's on validation data."""
    from edgekit.workflows import export

    outcome = export.export(artifact, to=to, out=out, shapes=shapes, progress=reporter.progress, say=reporter.say)

    def show() -> None:
        for artifact in outcome.artifacts:
            click.echo(f"{artifact.path}")

    return CommandResult.of(outcome, show)
