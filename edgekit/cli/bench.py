"""`edgekit bench [ARTIFACT…]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import (
    CommandResult,
    Reporter,
    Shapes,
    edgekit_command,
    metric_option,
    out_option,
    plan_of,
    plan_options,
    shape_option,
    target_option,
)


@edgekit_command("bench", short_help="Measure accuracy, latency, memory and size, per target and runtime.")
@click.argument("artifacts", nargs=-1, metavar="[ARTIFACT]...")
@click.option("--data", default="", metavar="SET", help="Samples to measure on (default: the task's test split).")
@click.option("--no-latency", is_flag=True, help="Accuracy and size only: nothing is timed.")
@metric_option
@click.option("--resume", is_flag=True, help="Keep the measurements of an interrupted bench with the same options.")
@shape_option
@out_option
@target_option
@plan_options
def command(
    artifacts: tuple[str, ...],
    data: str,
    no_latency: bool,
    metric: str,
    resume: bool,
    out: Path | None,
    shapes: Shapes,
    target_names: tuple[str, ...],
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Measure each ARTIFACT (RUN: all of its artifacts; RUN/NAME; a .onnx file; default: the newest run) in separate
    processes, interleaved. Measures again even if there are results; results are kept in the run folder."""
    from edgekit.report import terminal
    from edgekit.workflows import bench

    outcome = bench.bench(
        artifacts,
        target_names=target_names,
        data=data,
        metric=metric,
        plan=plan_of(options) | ({"latency": False} if no_latency else {}),
        out=out,
        shapes=shapes,
        resume=resume,
        progress=reporter.progress,
        say=reporter.say,
    )
    return CommandResult.of(outcome, lambda: terminal(outcome.measurements))
