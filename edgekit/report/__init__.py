"""Measurements → something to read. Pure: nothing here measures or decides what is stored."""

from edgekit.report.markdown import markdown
from edgekit.report.terminal import terminal

__all__ = ["markdown", "terminal"]
