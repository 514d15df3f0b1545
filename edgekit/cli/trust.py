"""`edgekit trust [FOLDER | CODE]`: what a folder, or code that a file names, may do."""

from __future__ import annotations

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.cli.shared.output import echo
from edgekit.cli.shared.trust import ask, can_ask
from edgekit.core.errors import InputError


@edgekit_command("trust", short_help="Trust the settings of a folder, or code that a file names.")
@click.argument("what", default=".", metavar="[FOLDER | CODE]")
@click.option("--list", "as_list", is_flag=True, help="List what is trusted.")
@click.option("--remove", is_flag=True, help="Trust it no longer.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation, as in CI.")
def command(what: str, as_list: bool, remove: bool, yes: bool, reporter: Reporter) -> CommandResult:
    """Use the edgekit.toml, targets/, calibration/ and recipes/ of FOLDER (default: this one) until they change: their
    content is shown first. Or run CODE (net.py:Net) where an artifact from elsewhere names it."""
    from edgekit.workflows import trust

    if as_list:
        entries = trust.listed()
        lines = [f"{entry['state']:<8}  {entry['what']}" for entry in entries]
        return CommandResult(lambda: _echo_all(lines or ["nothing is trusted yet"]), result=entries)
    if remove:
        removed = trust.remove(what)
        return CommandResult(lambda: echo(f"{removed} is no longer trusted"), result={"removed": removed})
    if trust.is_code(what):
        place = trust.trust_code(what)
        return CommandResult(lambda: echo(f"{place} may run"), result={"what": place, "trusted": True})
    folder = trust.folder_of(what)
    files = [str(path.relative_to(folder)) for path in trust.look(folder).files]
    if files and not yes and not can_ask():
        raise InputError(f"{folder} is not trusted", "there is no terminal to ask at", "edgekit trust --yes")
    trusted = bool(files) and ask(folder, yes)
    said = f"{folder} is {'trusted until these files change' if trusted else 'not trusted'}"
    text = said if files else f"{folder} holds nothing that needs trust"
    return CommandResult(lambda: echo(text), result={"what": str(folder), "trusted": trusted, "files": files})


def _echo_all(lines: list[str]) -> None:
    for line in lines:
        echo(line)
