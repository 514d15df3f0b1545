"""`edgekit compare [RUN|results.json…]`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from edgekit.cli._common import Answer, Voice, answers

FILE = click.Path(path_type=Path, dir_okay=False)


@answers("compare", short_help="Measured artifacts side by side.")
@click.argument("sources", nargs=-1)
@click.option("--markdown", type=FILE, help="Also write the table as Markdown.")
@click.option("--html", type=FILE, help="Also write a page of its own: picture, table, how it was measured.")
@click.option("--picture", type=FILE, help="Also write accuracy, latency and size as one SVG, for a README.")
def command(
    sources: tuple[str, ...], markdown: Path | None, html: Path | None, picture: Path | None, voice: Voice
) -> Answer:
    """Show what was measured in run folders and results files, side by side. Left out: the newest run."""
    from edgekit import api, report
    from edgekit.errors import os_errors

    measurements = api.compare(sources)
    title = ", ".join(dict.fromkeys(_title(source) for source in sources)) or "edgekit compare"
    wanted: dict[Path | None, Callable[[], str]] = {
        markdown: lambda: report.markdown(measurements),
        html: lambda: report.html(measurements, title),
        picture: lambda: report.picture(measurements, title),
    }
    for path, write in wanted.items():
        if path:
            with os_errors("write", path):
                path.write_text(write(), encoding="utf-8")
            voice.say(f"wrote {path}")
    return Answer(lambda: report.terminal(measurements), measurements=measurements)


def _title(source: str) -> str:
    """The run's name: of the folder, for a results file in it too."""
    path = Path(source).resolve()
    return path.parent.name if path.name == "results.json" else path.stem if path.suffix == ".json" else path.name
