"""Tables of texts in GLUE's layouts (https://gluebenchmark.com/tasks), or any CSV, TSV, JSONL or Parquet; its metrics.

The header identifies the layout, which implies the metric: CoLA (no header) Matthews correlation, MRPC and QQP F1,
STS-B Spearman correlation, the others accuracy. GLUE's test files hold no labels: `dev.tsv` is the test split, and
the validation split is drawn from train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, suggest
from edgekit.core.task import Scores
from edgekit.sets.texts import COLA, LABELS, TEXTS, Text, cells_of, files_of
from edgekit.tasks.shared.text import random_split

#: the fraction of rows that may be unreadable
MAX_BROKEN = 0.05


@dataclass(frozen=True)
class Row:
    """One sample; `where` locates it in messages. The label is a class name, or a float for regression."""

    text: Text
    label: str | float
    where: str


class Rows(list[Row]):
    """Rows, messages about the unreadable ones, and the metric that the layout implies."""

    def __init__(self, rows: Sequence[Row], skipped: Sequence[str] = (), metric: str = "") -> None:
        super().__init__(rows)
        self.skipped, self.metric = list(skipped), metric


def read(path: Path, text: str, label: str) -> dict[str, list[Row]]:
    """Split → rows of a folder in one of GLUE's layouts, or of a table. Raises InputError."""
    if not path.is_dir():
        return _random_split(_table(path, text, label), ("train", "val", "test"))
    train, test = files_of(path)
    parts = _random_split(_table(train, text, label), ("train", "val"))
    return {**parts, "test": _table(test, text, label)}


def _random_split(rows: Rows, splits: Sequence[str]) -> dict[str, list[Row]]:
    parts = random_split(rows, lambda row: repr(row.text), splits, "text")
    return {name: Rows(part, rows.skipped, rows.metric) for name, part in parts.items()}


def _table(path: Path, text: str, label: str) -> Rows:
    """The rows of a table. Raises InputError: no such columns, too many unreadable rows."""
    cells_by_row = list(cells_of(path))
    if not cells_by_row:
        raise InputError(f"{path} holds no texts", "it is empty", "add rows")
    header = tuple(cells_by_row[0][1])
    if header == COLA:
        text_columns, label_column = _select_columns(path, header, "sentence", "label")
        metric = "matthews"
    else:
        text_columns, label_column = _select_columns(path, header, text, label)
        metric = LABELS.get(label_column, "")
    rows, skipped = [], []
    is_numeric = metric == "spearman" or _has_fractions(cells.get(label_column) for _, cells in cells_by_row)
    for where, cells in cells_by_row:
        parts = [str(cells[name]).strip() for name in text_columns if cells.get(name) not in (None, "")]
        target = cells.get(label_column)
        if len(parts) != len(text_columns) or target in (None, ""):
            missing = next((n for n in (*text_columns, label_column) if cells.get(n) in (None, "")), "")
            skipped.append(f"{where} of {path}: {missing!r} is missing")
            continue
        row_text: Text = (parts[0], parts[1]) if len(parts) == 2 else parts[0]
        try:
            rows.append(Row(row_text, float(target) if is_numeric else _class_name(target), f"{where} of {path}"))
        except ValueError:
            skipped.append(f"{where} of {path}: {target!r} is not a number")
    if len(skipped) > MAX_BROKEN * len(cells_by_row):
        raise InputError(
            f"{len(skipped)} of {len(cells_by_row)} rows of {path} cannot be read", skipped[0], "fix these rows"
        )
    return Rows(rows, skipped, metric)


def _class_name(target: Any) -> str:
    return str(int(target)) if isinstance(target, float) and target == int(target) else str(target)


def _has_fractions(cells: Iterator[Any]) -> bool:
    return any(isinstance(cell, float) and math.isfinite(cell) and cell != int(cell) for cell in cells)


def _select_columns(path: Path, header: tuple[str, ...], text: str, label: str) -> tuple[tuple[str, ...], str]:
    """The columns of the text and the label. Raises InputError."""
    text_columns = tuple(filter(None, text.split(","))) or next((t for t in TEXTS if set(t) <= set(header)), ())
    label_column = label or next((name for name in LABELS if name in header), "")
    if not text_columns or not label_column or len(text_columns) > 2:
        what = "one or two columns of text" if not text_columns or len(text_columns) > 2 else "a column of labels"
        advice = "name them: text-classification?data=FILE&text=COLUMN&label=COLUMN"
        raise InputError(f"{path} needs {what}", f"its columns are {', '.join(map(str, header))}", advice)
    for name in (*text_columns, label_column):
        if name not in header:
            known = ", ".join(header)
            raise InputError(f"{path} has no column {name!r}", f"its columns are {known}", suggest(name, header))
    return text_columns, label_column


def score(metric: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Scores:
    """GLUE's metrics by scikit-learn and SciPy, over rows of (predicted, true).

    Raises InputError for a metric that does not fit the labels.
    """
    try:
        from scipy import stats
        from sklearn import metrics
    except ImportError as error:
        raise Missing.install(f"the metric {metric}", "scikit-learn", "metrics") from error
    is_numeric = labels.dtype.kind == "f"
    if is_numeric != (metric in ("pearson", "spearman")):
        kind = "continuous values" if is_numeric else "classes"
        raise InputError(f"the metric {metric} does not fit", f"the labels are {kind}", "choose another: metric=")
    predictions = outputs.reshape(len(outputs)) if is_numeric else outputs.argmax(axis=1)
    average = "binary" if not is_numeric and outputs.shape[1] == 2 else "macro"

    def reduce(rows: NDArray[Any]) -> float:
        predicted, true = rows.T
        if metric == "f1":
            return float(metrics.f1_score(true, predicted, average=average, zero_division=0))
        if metric == "matthews":
            return float(metrics.matthews_corrcoef(true, predicted))
        kind = stats.pearsonr if metric == "pearson" else stats.spearmanr
        return float(kind(true, predicted).statistic) if np.ptp(true) and np.ptp(predicted) else 0.0

    names = {"f1": "F1", "matthews": "Matthews correlation", "pearson": "Pearson's r", "spearman": "Spearman's ρ"}
    return Scores(names[metric], "fraction", True, np.stack([predictions, labels], axis=1).astype(np.float64), reduce)
