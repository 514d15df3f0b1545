"""`edgekit compare [RUN|results.json…]`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import Answer, Voice, answers


@answers("compare", short_help="Measured artifacts side by side.")
@click.argument("sources", nargs=-1)
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table as Markdown.")
def command(sources: tuple[str, ...], markdown: Path | None, voice: Voice) -> Answer:
    """Show what was measured in run folders and results files, side by side. Left out: the newest run."""
    from edgekit import api, report
    from edgekit.errors import os_errors

    measurements = api.compare(sources)
    if markdown:
        with os_errors("write", markdown):
            markdown.write_text(report.markdown(measurements), encoding="utf-8")
    return Answer(lambda: report.terminal(measurements), measurements=measurements)
