"""`edgekit clean RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import Answer, Voice, answers


@answers("clean", short_help="Delete a run folder.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(run: Path, yes: bool, voice: Voice) -> Answer:
    """Delete the run folder RUN: its artifacts, results and log. A folder that edgekit did not make is refused, and
    files in it that edgekit did not write are left."""
    from edgekit import api
    from edgekit.errors import InputError

    if not api.is_run(run):
        raise InputError(f"{run} is not a run folder", "nothing in it was made by edgekit", "name a folder under runs/")
    if not yes and not click.confirm(f"Delete everything edgekit made in {run}?", err=True):
        return Answer(lambda: None, result={"deleted": False})
    left = api.clean(run)

    def show() -> None:
        click.echo(f"deleted {run}" if not left else f"deleted; left in {run}: {', '.join(left)}")

    return Answer(show, result={"deleted": True, "left": left})
