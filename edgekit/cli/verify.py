"""`edgekit verify [ARTIFACT]`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command

if TYPE_CHECKING:
    from edgekit.core.artifact import Artifact
    from edgekit.measure.verify import Finding
    from edgekit.workflows.inspect.layers import LayerReport


@edgekit_command("verify", short_help="Check again that every arrow kept what it promised.")
@click.argument("artifact", required=False)
@click.option("--against", default="", metavar="PARENT", help="Compare with this artifact of the run, not its parent.")
@click.option("--val", default="", metavar="SET", help="Samples to compare on (default: the task's validation split).")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="Where to run both.")
@click.option("--layers", is_flag=True, help="Compare operator by operator too, on this machine.")
def command(
    artifact: str | None, against: str, val: str, target: str, layers: bool, reporter: Reporter
) -> CommandResult:
    """Run ARTIFACT (RUN: every one in it) and its parent on real samples and compare: SQNR per output, largest
    difference, agreement, and the paired change of accuracy. Exit 1 where an arrow broke its promise; the first
    operator that diverges is then named."""
    from edgekit.report import tables
    from edgekit.workflows import make, verify
    from edgekit.workflows.inspect import layers_table as shown

    outcome = verify.verify(
        artifact, against=against, val=val, target=target, layers=layers, progress=reporter.progress
    )
    examined = [
        _examined(item, finding.failed, layers)
        for item, finding in zip(outcome.artifacts, outcome.findings, strict=True)
    ]

    def show() -> None:
        for finding, found in zip(outcome.findings, examined, strict=True):
            per_output = finding.parity.per_output if finding.parity else {}
            said = [make.describe(finding), *(f"output {name}: {value:.1f} dB" for name, value in per_output.items())]
            if found and not layers:
                said.append(shown.diverging(found))
            table = tables.table(tables.words(width=20), tables.words())
            tables.add(table, finding.artifact, "\n".join(said))
            tables.show([table, *(shown.table(found) if found and layers else ())])

    result = [_result(finding, found) for finding, found in zip(outcome.findings, examined, strict=True)]
    return CommandResult.of(outcome, show, result)


def _examined(artifact: Artifact, failed: str, asked: bool) -> LayerReport | None:
    from edgekit.workflows.inspect.layers import read

    return read(artifact) if asked or failed in ("parity", "budget") else None


def _result(finding: Finding, found: LayerReport | None) -> dict[str, Any]:
    """The finding; `layers` is null where they were not looked at."""
    entry = dataclasses.asdict(finding)
    first = found.first_diverging if found else None
    entry["layers"] = [dataclasses.asdict(layer) for layer in found.layers] if found else None
    entry["first_divergence"] = first and (first.name or first.tensor)
    entry["sensitive"] = [layer.name for layer in found.sensitive] if found else []
    return entry
