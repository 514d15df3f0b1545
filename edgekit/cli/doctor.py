"""`edgekit doctor`."""

from __future__ import annotations

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command


@edgekit_command("doctor", short_help="Show what is installed, what is missing, and how to install it.")
def command(reporter: Reporter) -> CommandResult:
    """Show this machine, the installed and the missing extras of edgekit, and the commands that install them."""
    from edgekit.report import tables
    from edgekit.workflows import doctor

    report = doctor.doctor()

    def show() -> None:
        tables.show(doctor.shown(report))

    return CommandResult(show, result=report)
