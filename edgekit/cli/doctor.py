"""`edgekit doctor`."""

from __future__ import annotations

import click

from edgekit.cli._common import Answer, Voice, answers


@answers("doctor", short_help="What is installed, what is missing, what to type next.")
def command(voice: Voice) -> Answer:
    """What this machine is, which parts of edgekit are installed, which are missing, and what to type to get them."""
    from edgekit import diagnosis

    found = diagnosis.examine()

    def show() -> None:
        for line in diagnosis.lines(found):
            click.echo(line)

    return Answer(show, result=found)
