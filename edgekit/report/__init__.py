"""Reports of measurements: tables, pictures, pages. Pure: nothing here measures or decides what is stored."""

from edgekit.report.gates import junit
from edgekit.report.html import html
from edgekit.report.markdown import markdown
from edgekit.report.mlflow import mlflow
from edgekit.report.picture import picture
from edgekit.report.spreadsheet import csv
from edgekit.report.summary import summary
from edgekit.report.tensorboard import tensorboard
from edgekit.report.terminal import terminal
from edgekit.report.wandb import wandb

__all__ = [
    "csv",
    "html",
    "junit",
    "markdown",
    "mlflow",
    "picture",
    "summary",
    "tensorboard",
    "terminal",
    "wandb",
]
