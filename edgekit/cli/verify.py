"""`edgekit verify [ARTIFACT]`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, metric_option, shape_option

if TYPE_CHECKING:
    from edgekit.core.artifact import Artifact
    from edgekit.measure.verify import Finding
    from edgekit.workflows.inspect.layers import LayerReport


@edgekit_command("verify", short_help="Check again that each conversion kept outputs or accuracy.")
@click.argument("artifact", required=False)
@click.option("--against", default="", metavar="MODEL", help="Compare with this artifact or file, not its parent.")
@click.option("--val", default="", metavar="SET", help="Validation samples (default: the task's validation split).")
@metric_option
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="The target to run both on.")
@shape_option
@click.option("--layers", is_flag=True, help="Also compare operator by operator, on this machine.")
def command(
    artifact: str | None,
    against: str,
    val: str,
    metric: str,
    target: str,
    layers: bool,
    shapes: Shapes,
    reporter: Reporter,
) -> CommandResult:
    """Run ARTIFACT (RUN: all of its artifacts) and its parent on real samples and compare: SQNR per output, largest
    difference, top-1 agreement, and the paired change of accuracy. Exit 1 if a conversion fails its check; the first
    diverging operator is then named."""
    from edgekit.report import tables
    from edgekit.workflows import make, verify
    from edgekit.workflows.inspect import layers_table

    outcome = verify.verify(
        artifact,
        against=against,
        val=val,
        metric=metric,
        target=target,
        layers=layers,
        shapes=shapes,
        progress=reporter.progress,
    )
    reports = [
        _layer_report(artifact, finding.failed, layers)
        for artifact, finding in zip(outcome.artifacts, outcome.findings, strict=True)
    ]

    def show() -> None:
        for finding, report in zip(outcome.findings, reports, strict=True):
            per_output = finding.parity.per_output if finding.parity else {}
            lines = [make.describe(finding), *finding.matched]
            lines += [f"output {name}: {value:.1f} dB" for name, value in per_output.items()]
            if report and not layers:
                lines.append(layers_table.diverging(report))
            table = tables.table(tables.words(width=20), tables.words())
            tables.add(table, finding.artifact, "\n".join(lines))
            tables.show([table, *(layers_table.table(report) if report and layers else ())])

    result = [_result(finding, report) for finding, report in zip(outcome.findings, reports, strict=True)]
    return CommandResult.of(outcome, show, result)


def _layer_report(artifact: Artifact, failed: str, requested: bool) -> LayerReport | None:
    from edgekit.workflows.inspect.layers import read

    return read(artifact) if requested or failed in ("parity", "budget") else None


def _result(finding: Finding, report: LayerReport | None) -> dict[str, Any]:
    """The finding; `layers` is null if the layers were not compared."""
    entry = dataclasses.asdict(finding)
    first = report.first_diverging if report else None
    entry["layers"] = [dataclasses.asdict(layer) for layer in report.layers] if report else None
    entry["first_divergence"] = first and (first.name or first.tensor)
    entry["sensitive"] = [layer.name for layer in report.sensitive] if report else []
    return entry
