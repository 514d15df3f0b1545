"""`edgekit deploy ARTIFACT --target T`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option
from edgekit.cli.shared.output import echo
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from edgekit.workflows.deploy import Deployment


@edgekit_command("deploy", short_help="Deploy an artifact to a device, or roll back.")
@click.argument("artifact", required=False)
@click.option("--target", "target_name", envvar="EDGEKIT_TARGET", metavar="T", help="The target to deploy to.")
@click.option("--path", default="", metavar="DIR", help="The folder on the target (default: ~/edgekit/RUN).")
@click.option("--runtime", default="", metavar="R", help="The runtime, if several on the target take the format.")
@click.option("--rollback", "back", is_flag=True, help="Check the previous release and switch back to it.")
@click.option("--list", "listing", is_flag=True, help="List the deployed releases; change nothing.")
@click.option(
    "--bundle", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Only write the bundle, to DIR."
)
@click.option(
    "--data", default="", metavar="SET", help="Files to check it with (default: those of its task or calibration)."
)
@out_option
def command(
    artifact: str | None,
    target_name: str | None,
    path: str,
    runtime: str,
    back: bool,
    listing: bool,
    folder: Path | None,
    data: str,
    out: Path | None,
    reporter: Reporter,
) -> CommandResult:
    """Deploy ARTIFACT to a target. Only missing files are sent. The device checks their sha256, runs the model, and
    compares its outputs with the host's; only then is the release switched. An artifact that the device cannot run is
    an error before anything is sent."""
    from edgekit.workflows import deploy

    if sum((back, listing, folder is not None)) > 1:
        raise InputError("--rollback, --list and --bundle exclude each other", next="name one of them")
    if not target_name and folder is None:
        raise InputError("deploy requires --target", next="edgekit targets list; --target host deploys to this machine")
    if folder is not None:
        name = target_name or "host"
        return _result(deploy.write_bundle(artifact, folder, target_name=name, runtime=runtime, data=data))
    name = str(target_name)
    if listing:
        status = deploy.list_releases(artifact, name, path=path, out=out)
        return CommandResult(lambda: _show_releases(status), result=dict(status))
    if back:
        return _result(deploy.rollback(artifact, name, path=path, out=out))
    return _result(deploy.deploy(artifact, name, path=path, runtime=runtime, data=data, out=out, say=reporter.say))


def _result(deployment: Deployment) -> CommandResult:
    def show() -> None:
        if deployment.how == "written":
            size = f"{deployment.size_bytes / 1e6:,.1f} MB"
            echo(f"written to {deployment.at}: {size}; its README.md describes it")
            echo(f"checked       {_replayed(deployment.check)}")
            return
        check = deployment.check
        agreement = "bit-identical to the host's" if check["bit_identical"] else f"within {check['max_relative']:.1e}"
        show_sent = deployment.sent_bytes or deployment.how == "unchanged"
        sent = f", {deployment.sent_bytes / 1e6:,.2f} MB sent" if show_sent else ""
        echo(f"{deployment.how} on {deployment.target}: release {deployment.id}{sent}")
        echo(f"checked       the outputs of {check['samples']} samples there are {agreement}")
        echo(f"              {_replayed(check)}")
        echo(f"folder        {deployment.at}")
        if deployment.python:
            echo(f"Python        {deployment.python}")
        echo(f"run it there  {deployment.at}/run {'INPUT' if deployment.python else 'OUT INPUT.npy'}")
        if deployment.previous:
            command = f"edgekit deploy --rollback --target {deployment.target}"
            echo(f"roll back     {command}  (to {deployment.previous})")

    return CommandResult(show, result=dataclasses.asdict(deployment))


def _replayed(check: Mapping[str, Any]) -> str:
    """What the check on files found."""
    from edgekit.workflows.deploy import replay

    return replay.sentence(check) or "not on files: none are known; --data FOLDER names images or sounds"


def _show_releases(status: Mapping[str, Any]) -> None:
    if not status["releases"]:
        echo(f"nothing is deployed in {status['path']} on {status['target']}")
    for name in status["releases"]:
        mark = {status["previous"]: "previous", status["current"]: "current"}.get(name, "")
        echo(f"{name}  {mark}".rstrip())
