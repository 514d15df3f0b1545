"""`edgekit clean RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.cli.shared.output import echo
from edgekit.core.errors import InputError
from edgekit.core.printable import printable


@edgekit_command("clean", short_help="Delete a run folder.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def command(run: Path, yes: bool, reporter: Reporter) -> CommandResult:
    """Delete the run folder RUN: its artifacts, results and log. Files that edgekit did not write, or that were changed
    since, are left in place; a folder that edgekit did not make is an error."""
    from edgekit.workflows import clean

    if not clean.is_run(run):
        why = "it is a link" if run.is_symlink() else "edgekit made nothing in it"
        raise InputError(f"{run} is not a run folder", why, "name a folder under runs/")
    if not yes and not click.confirm(f"Delete everything edgekit made in {printable(str(run))}?", err=True):
        return CommandResult(lambda: None, result={"deleted": False})
    left = clean.clean(run)

    def show() -> None:
        echo(f"deleted {run}" if not left else f"deleted what edgekit made; left in {run}: {', '.join(left)}")

    return CommandResult(show, result={"deleted": True, "left": left})
