"""`edgekit inspect MODEL`."""

from __future__ import annotations

import click

from edgekit.cli._common import Answer, Voice, answers


@answers("inspect", short_help="What a model file holds, and what can run it.")
@click.argument("model", required=False)
def command(model: str | None, voice: Voice) -> Answer:
    """Inputs and outputs, operators, parameters, MACs, sizes by part, and which runtimes here take it. MODEL is an
    artifact or a model's file; nothing is run."""
    from edgekit import inspection

    found = inspection.inspect(model)

    def show() -> None:
        for label, value in inspection.lines(found):
            click.echo(f"{label:<12} {value}")

    return Answer(show, result=found)
