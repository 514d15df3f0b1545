"""`edgekit compare [RUN|results.json…] [--against BASELINE --fail-if LIMIT…]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, plan_of, plan_options
from edgekit.core.errors import InputError, os_errors

if TYPE_CHECKING:
    from edgekit.workflows.compare.limits import Gate

FILE = click.Path(path_type=Path, dir_okay=False)


@edgekit_command("compare", short_help="Measured artifacts side by side, and gates against a baseline.")
@click.argument("sources", nargs=-1)
@click.option("--markdown", type=FILE, help="Also write the table as Markdown, for a pull request.")
@click.option("--html", type=FILE, help="Also write a page of its own: picture, table, how it was measured.")
@click.option("--picture", type=FILE, help="Also write accuracy, latency and size as one SVG, for a README.")
@click.option("--csv", type=FILE, help="Also write every figure as CSV, for spreadsheets and trackers.")
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write every row as a run of TensorBoard, with its hyperparameters.",
)
@click.option("--set", "chosen", default="", metavar="SHA", help="Only rows over this test set; its first digits do.")
@click.option("--against", metavar="BASELINE", help="A run folder or results file that nothing may be worse than.")
@click.option(
    "--fail-if",
    multiple=True,
    metavar="LIMIT",
    help="p50>+5%, accuracy<-0.5pp, size>+2%, memory>+10%: end with 1 where it is so. Repeat it.",
)
@click.option("--stored", is_flag=True, help="Measure nothing again: latency stays undecided.")
@click.option("--strict", is_flag=True, help="A gate that is undecided fails too.")
@plan_options
def command(
    sources: tuple[str, ...],
    markdown: Path | None,
    html: Path | None,
    picture: Path | None,
    csv: Path | None,
    tensorboard: Path | None,
    chosen: str,
    against: str | None,
    fail_if: tuple[str, ...],
    stored: bool,
    strict: bool,
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Show what was measured in run folders and results files, side by side. Left out: the newest run.

    With --against, what --fail-if names is compared with the baseline's rows of the same artifact name, target and
    runtime. A latency is gated by measuring the baseline's artifact again beside the new one, so the baseline is best
    a run folder; the options of `bench` say how.
    """
    from edgekit import report
    from edgekit.workflows.compare.gate import gate
    from edgekit.workflows.compare.lineage import gather
    from edgekit.workflows.compare.rows import collected, disambiguated, run_folders, run_title
    from edgekit.workflows.compare.verdicts import verdicts

    if bool(against) != bool(fail_if):
        given, lacks = ("--against", "--fail-if") if against else ("--fail-if", "--against")
        raise InputError(
            f"{given} needs {lacks} too", next="edgekit compare RUN --against BASELINE --fail-if 'p50>+5%'"
        )
    context = click.get_current_context()
    typed = [name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if fixed := [f"--{name}" for name in ("threads", "batch") if name in typed]:
        why = "each pair is measured as its rows were"
        raise InputError(f"{fixed[0]} changes nothing in compare", why, "edgekit bench RUN measures with it")
    if typed and not against:
        raise InputError("nothing is measured", "options of bench need --against", "edgekit bench RUN measures")
    found = collected(sources, chosen)
    measurements = [m for _, m in found]
    rows = disambiguated(found)
    gates: list[Gate] = []
    if against:
        plan = {name: value for name, value in plan_of(options).items() if name not in ("threads", "batch")}
        gates = gate(
            sources, against, fail_if, plan=plan, again=not stored, progress=reporter.progress, say=reporter.say
        )
    title = ", ".join(dict.fromkeys(map(run_title, sources))) or "edgekit compare"
    wanted: dict[Path | None, Callable[[], str]] = {
        markdown: lambda: report.markdown(rows, gates),
        html: lambda: report.html(rows, title, gather(run_folders(sources), measurements)),
        picture: lambda: report.picture(rows, title),
        csv: lambda: report.csv(rows),
    }
    for path, write in wanted.items():
        if path:
            with os_errors("write", path):
                path.write_text(write(), encoding="utf-8")
            reporter.say(f"wrote {path}")

    if tensorboard:
        with os_errors("write", tensorboard):
            report.tensorboard(rows, tensorboard)
        reporter.say(f"wrote {tensorboard}: tensorboard --logdir {tensorboard}")

    def show() -> None:
        report.terminal(rows, advise=True)
        if gates:
            verdicts(gates)

    failures = [error for gate in gates if (error := gate.error(strict))]
    result = {"gates": [asdict(gate) for gate in gates]} if against else None
    return CommandResult(show, measurements=measurements, result=result, failures=failures)
