"""`edgekit doctor`."""

from __future__ import annotations

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command


@edgekit_command("doctor", short_help="What is installed, what is missing, what to type next.")
def command(reporter: Reporter) -> CommandResult:
    """What this machine is, which parts of edgekit are installed, which are missing, and what to type to get them."""
    from edgekit.report import tables
    from edgekit.workflows import doctor

    found = doctor.doctor()

    def show() -> None:
        tables.show(doctor.shown(found))

    return CommandResult(show, result=found)
