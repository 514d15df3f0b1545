"""The question whether to trust a folder, which `edgekit trust` asks, and every command beside an edgekit.toml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edgekit.cli.shared.output import echo_error
from edgekit.core.printable import printable


def can_ask() -> bool:
    """Is somebody at a terminal?"""
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


def ask(folder: Path, yes: bool = False) -> bool:
    """Show what edgekit would use of a folder, and ask whether to trust it, or take `yes` for the answer."""
    from edgekit.workflows import trust

    shown = trust.look(folder)
    for line in shown.lines:
        echo_error(line)
    if not yes and not click.confirm(
        f"Use these files of {printable(str(shown.folder))}, until they change?", err=True
    ):
        return False
    trust.trust(shown)
    return True
