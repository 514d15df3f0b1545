"""`edgekit deploy ARTIFACT --target T`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option
from edgekit.core.errors import InputError


@edgekit_command("deploy", short_help="Put a checked bundle on a device, switch to it, or back.")
@click.argument("artifact", required=False)
@click.option("--target", "target_name", envvar="EDGEKIT_TARGET", metavar="T", help="Where to.")
@click.option("--path", default="", metavar="DIR", help="The folder there (default: ~/edgekit/RUN).")
@click.option("--runtime", default="", metavar="R", help="Which runtime, where the target has several for the format.")
@click.option("--rollback", "back", is_flag=True, help="Check the release before, and switch back to it.")
@click.option("--list", "listing", is_flag=True, help="What is deployed there; nothing is changed.")
@click.option("--bundle", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Write the bundle here only.")
@out_option
def command(
    artifact: str | None,
    target_name: str | None,
    path: str,
    runtime: str,
    back: bool,
    listing: bool,
    folder: Path | None,
    out: Path | None,
    reporter: Reporter,
) -> CommandResult:
    """Put ARTIFACT on a target: only what is missing is sent, sha256 checked there, run there, compared with the host's
    answer, and only then switched to. What the device cannot run is refused before anything is sent."""
    from edgekit.workflows import deploy

    if sum((back, listing, folder is not None)) > 1:
        raise InputError("--rollback, --list and --bundle exclude each other", next="name one of them")
    if not target_name and folder is None:
        raise InputError("deploy needs --target", next="edgekit targets list shows them; --target host tries it here")
    if folder is not None:
        done = deploy.written(artifact, folder, target_name=target_name or "host", runtime=runtime)
        return _answer(done)
    name = str(target_name)
    if listing:
        found = deploy.listed(artifact, name, path=path, out=out)
        return CommandResult(lambda: _list(found), result=dict(found))
    if back:
        return _answer(deploy.rollback(artifact, name, path=path, out=out))
    return _answer(deploy.deploy(artifact, name, path=path, runtime=runtime, out=out, say=reporter.say))


def _answer(done: Any) -> CommandResult:
    def show() -> None:
        if done.how == "written":
            click.echo(f"written to {done.at}: {done.size_bytes / 1e6:,.1f} MB; README.md there says the rest")
            return
        check = done.check
        same = "bit-identical to the host's" if check["bit_identical"] else f"within {check['max_relative']:.1e}"
        sent = f", {done.sent_bytes / 1e6:,.2f} MB sent" if done.sent_bytes or done.how == "unchanged" else ""
        click.echo(f"{done.how} on {done.target}: release {done.id}{sent}")
        click.echo(f"checked there: {check['samples']} answers {same}")
        click.echo(f"it lies in    {done.at}")
        click.echo(f"Python        {done.python}")
        click.echo(f"run it there  {done.at}/run INPUT")
        if done.previous:
            click.echo(f"go back       edgekit deploy --rollback --target {done.target}  (to {done.previous})")

    return CommandResult(show, result=dataclasses.asdict(done))


def _list(found: Mapping[str, Any]) -> None:
    if not found["releases"]:
        click.echo(f"nothing is deployed in {found['path']} on {found['target']}")
    for name in found["releases"]:
        mark = {found["previous"]: "previous", found["current"]: "current"}.get(name, "")
        click.echo(f"{name}  {mark}".rstrip())
