"""`edgekit verify [ARTIFACT]`."""

from __future__ import annotations

import dataclasses

import click

from edgekit.cli._common import Answer, Voice, answers


@answers("verify", short_help="Check again that every arrow kept what it promised.")
@click.argument("artifact", required=False)
@click.option("--against", default="", metavar="PARENT", help="Compare with this artifact of the run, not its parent.")
@click.option("--val", default="", metavar="SET", help="Samples to compare on (default: the task's validation split).")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="Where to run both.")
def command(artifact: str | None, against: str, val: str, target: str, voice: Voice) -> Answer:
    """Run ARTIFACT (RUN: every one in it) and its parent on real samples and compare: SQNR per output, largest
    difference, agreement, and the paired change of accuracy. Exit 1 where an arrow broke its promise."""
    from edgekit import api, pipeline

    outcome = api.verify(artifact, against=against, val=val, target=target, progress=voice.progress)

    def show() -> None:
        for finding in outcome.findings:
            click.echo(f"{finding.artifact:<20} {pipeline.describe(finding)}")
            for name, value in (finding.parity.per_output if finding.parity else {}).items():
                click.echo(f"{'':<20} output {name}: {value:.1f} dB")

    return Answer.of(outcome, show, [dataclasses.asdict(finding) for finding in outcome.findings])
