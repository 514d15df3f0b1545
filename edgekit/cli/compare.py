"""`edgekit compare [RUN|results.json…] [--against BASELINE --fail-if LIMIT…]`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, github, plan_of, plan_options
from edgekit.core.errors import EdgekitError, InputError, os_errors
from edgekit.core.files import write_atomically

if TYPE_CHECKING:
    from edgekit.workflows.compare.limits import Gate

FILE = click.Path(path_type=Path, dir_okay=False)


@edgekit_command("compare", short_help="Compare measured artifacts, and gate them against a baseline.")
@click.argument("sources", nargs=-1, metavar="[RUN|FILE]...")
@click.option("--markdown", type=FILE, help="Also write the table as Markdown, for a pull request.")
@click.option("--html", type=FILE, help="Also write an HTML page: chart, table, how it was measured.")
@click.option("--picture", type=FILE, help="Also write a chart of accuracy, latency and size: .svg, .png, .pdf.")
@click.option("--summary", type=FILE, help="Also write a summary of one page: .svg, .png, .pdf.")
@click.option("--csv", type=FILE, help="Also write every value as CSV.")
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write each row as a TensorBoard run, with its hyperparameters.",
)
@click.option("--mlflow", metavar="EXPERIMENT", help="Also log each row as a run of an MLflow experiment.")
@click.option("--wandb", metavar="PROJECT", help="Also log each row as a run of a Weights & Biases project.")
@click.option("--set", "test_set", default="", metavar="SHA", help="Only rows over this test set (first digits).")
@click.option("--metric", default="", metavar="NAME", help="Only rows in this metric, where there are several.")
@click.option("--against", metavar="BASELINE", help="The baseline: a run folder or results file.")
@click.option(
    "--fail-if",
    multiple=True,
    metavar="LIMIT",
    help="Exit 1 on a change beyond p50>+5%, accuracy<-0.5pp, size>+2%, memory>+10%; repeat.",
)
@click.option("--junit", type=FILE, help="Also write the verdicts as JUnit XML, for CI.")
@click.option("--stored", is_flag=True, help="Do not measure again: latency stays undecided.")
@click.option("--strict", is_flag=True, help="An undecided gate fails, too.")
@plan_options
def command(
    sources: tuple[str, ...],
    markdown: Path | None,
    html: Path | None,
    picture: Path | None,
    summary: Path | None,
    csv: Path | None,
    tensorboard: Path | None,
    mlflow: str | None,
    wandb: str | None,
    test_set: str,
    metric: str,
    against: str | None,
    fail_if: tuple[str, ...],
    junit: Path | None,
    stored: bool,
    strict: bool,
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Show the measurements of run folders, artifacts and results files in one table (default: the newest run).

    With --against, each --fail-if limit is checked against the baseline's rows with the same artifact name, target and
    runtime. To check latency, the baseline's artifact and the new one are measured again, interleaved; this needs a run
    folder as the baseline. The options of `bench` set how they are measured.
    """
    from edgekit import report
    from edgekit.report import file
    from edgekit.workflows.compare.gate import gate
    from edgekit.workflows.compare.lineage import gather
    from edgekit.workflows.compare.rows import collect, disambiguated, run_folders, run_title
    from edgekit.workflows.compare.verdicts import verdicts

    if bool(against) != bool(fail_if):
        option, other = ("--against", "--fail-if") if against else ("--fail-if", "--against")
        raise InputError(
            f"{option} requires {other}", next="edgekit compare RUN --against BASELINE --fail-if 'p50>+5%'"
        )
    if junit and not against:
        raise InputError("--junit has no effect without --against", next="add --against BASELINE --fail-if 'p50>+5%'")
    context = click.get_current_context()
    typed = [name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if fixed := [f"--{name}" for name in ("threads", "batch") if name in typed]:
        why = "compare measures each pair with the threads and batch of its rows"
        raise InputError(f"{fixed[0]} has no effect in compare", why, f"edgekit bench RUN {fixed[0]} N")
    if typed and not against:
        what = f"--{typed[0]} has no effect without --against"
        raise InputError(what, "compare measures nothing then", "add --against BASELINE, or use edgekit bench RUN")
    for drawing in filter(None, (picture, summary)):
        file.check(drawing)
    sourced_rows = collect(sources, test_set, metric)
    measurements = [m for _, m in sourced_rows]
    rows = disambiguated(sourced_rows)
    gates: list[Gate] = []
    if against:
        plan = {name: value for name, value in plan_of(options).items() if name not in ("threads", "batch")}
        gates = gate(
            sources,
            against,
            fail_if,
            set=test_set,
            metric=metric,
            plan=plan,
            again=not stored,
            progress=reporter.progress,
            say=reporter.say,
        )
    title = ", ".join(dict.fromkeys(map(run_title, sources))) or "edgekit compare"
    writers: dict[Path | None, Callable[[], str]] = {
        markdown: lambda: report.markdown(rows, gates),
        html: lambda: report.html(rows, title, gather(run_folders(sources), measurements)),
        csv: lambda: report.csv(rows),
        junit: lambda: report.junit(gates, strict),
    }
    for path, write in writers.items():
        if path:
            write_atomically(path, write())
            reporter.say(f"wrote {path}")
    for path, draw in ((picture, report.picture), (summary, report.summary)):
        if path:
            file.write(path, draw(rows, title))
            reporter.say(f"wrote {path}")

    if tensorboard:
        with os_errors("write", tensorboard):
            report.tensorboard(rows, tensorboard)
        reporter.say(f"wrote {tensorboard}: tensorboard --logdir {tensorboard}")
    for tracker, place, log in (("MLflow", mlflow, report.mlflow), ("Weights & Biases", wandb, report.wandb)):
        if place is not None:
            reporter.say(f"  logging {len(rows)} rows to {place} in {tracker} …")
            log(rows, place)

    def show() -> None:
        report.terminal(rows, advise=True)
        if gates:
            verdicts(gates)

    if gates:
        _tell_github(gates, strict, lambda: report.markdown(rows, gates), markdown)
    failures = [error for gate in gates if (error := gate.error(strict))]
    result = {"gates": [asdict(gate) for gate in gates]} if against else None
    return CommandResult(show, measurements=measurements, result=result, failures=failures)


def _tell_github(gates: Sequence[Gate], strict: bool, table: Callable[[], str], written: Path | None) -> None:
    """In a job of GitHub Actions: the count and undecided gates as annotations, and the table as the job's summary,
    unless it was written there. Failed ones are annotated as every failure is.
    """
    from edgekit.report.gates import summary

    if not github.is_job():
        return
    github.annotate("notice", "edgekit", summary(gates))
    for gate in gates:
        if gate.state == "undecided" and not strict:
            github.annotate("warning", f"{gate.limit} is undecided", gate.sentence())
    if str(written) != os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            why = github.add_to_summary(table())
        except EdgekitError as error:  # the verdicts matter more
            why = str(error)
        if why:
            github.annotate("notice", "edgekit", f"the job's summary was not written: {why}")
