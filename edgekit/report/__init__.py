"""Measurements → something to read. Pure: nothing here measures or decides what is stored."""

from edgekit.report.html import html
from edgekit.report.markdown import markdown
from edgekit.report.method_search import ladder
from edgekit.report.picture import picture
from edgekit.report.spreadsheet import csv
from edgekit.report.tensorboard import tensorboard
from edgekit.report.terminal import terminal
from edgekit.workflows.compare.verdicts import verdicts

__all__ = ["csv", "html", "ladder", "markdown", "picture", "tensorboard", "terminal", "verdicts"]
