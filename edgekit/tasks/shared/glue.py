"""Tables of texts: GLUE's layouts (https://gluebenchmark.com/tasks), any CSV, TSV, JSONL or Parquet; GLUE's metrics.

A layout is known by its header, and implies the metric: CoLA (no header) Matthews correlation, MRPC and QQP F1, STS-B
Spearman correlation, the others accuracy. GLUE's test files hold no labels: `dev.tsv` is then the test split, and
validation is drawn from train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors, suggest
from edgekit.core.task import Scores
from edgekit.sets import tables
from edgekit.sets.rows import rows as table_rows
from edgekit.tasks.shared.text import Text, drawn

#: columns that hold the text, the first that are all there count
TEXTS = (
    *(("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"), ("premise", "hypothesis")),
    *(("#1 String", "#2 String"), ("sentence",), ("text",), ("review",)),
)
#: column of the label → the metric it implies
LABELS = {"label": "", "gold_label": "", "is_duplicate": "f1", "Quality": "f1", "score": "spearman", "class": ""}
TRAIN = ("train.tsv", "msr_paraphrase_train.txt")
TEST = ("dev.tsv", "dev_matched.tsv", "msr_paraphrase_test.txt", "test.tsv")
#: the share of rows that may be broken
TOO_MANY = 0.05


@dataclass(frozen=True)
class Row:
    """One sample; `where` is for people. The label is a name, or a value as a float."""

    text: Text
    label: str | float
    where: str


class Rows(list[Row]):
    """Rows, what could not be read of them, and the metric that their layout implies."""

    def __init__(self, rows: Sequence[Row], skipped: Sequence[str] = (), metric: str = "") -> None:
        super().__init__(rows)
        self.skipped, self.metric = list(skipped), metric


def read(place: Path, text: str, label: str) -> dict[str, list[Row]]:
    """Split → rows, of a folder in GLUE's layout or of a table. Raises InputError."""
    if not place.is_dir():
        return _drawn(_table(place, text, label), ("train", "val", "test"))
    train = next((place / name for name in TRAIN if (place / name).is_file()), None)
    test = next((place / name for name in TEST if (place / name).is_file()), None)
    if train is None or test is None:
        raise InputError(f"{place} is in none of GLUE's layouts", "it needs train.tsv and dev.tsv", "name a table")
    parts = _drawn(_table(train, text, label), ("train", "val"))
    return {**parts, "test": _table(test, text, label)}


def _drawn(rows: Rows, splits: Sequence[str]) -> dict[str, list[Row]]:
    parts = drawn(rows, lambda row: repr(row.text), splits, "text")
    return {name: Rows(part, rows.skipped, rows.metric) for name, part in parts.items()}


def _table(path: Path, text: str, label: str) -> Rows:
    """Every row of a table. Raises InputError: no such columns, too many broken rows."""
    lines = list(_lines(path))
    if not lines:
        raise InputError(f"{path} holds no texts", "it is empty", "give it some")
    header = tuple(lines[0][1])
    if path.suffix in (".tsv", ".txt") and _is_cola(header):
        lines = [
            (where, dict(zip(("", "label", "mark", "sentence"), cells, strict=False))) for where, cells in _raw(path)
        ]
        header, metric = ("label", "sentence"), "matthews"
        named = "label"
        texts: tuple[str, ...] = ("sentence",)
    else:
        texts, named = _chosen(path, header, text, label)
        metric = LABELS.get(named, "")
    found, skipped = [], []
    values = metric == "spearman" or _fractions(cells.get(named) for _, cells in lines)
    for where, cells in lines:
        parts = [str(cells[name]).strip() for name in texts if cells.get(name) not in (None, "")]
        target = cells.get(named)
        if len(parts) != len(texts) or target in (None, ""):
            missing = next((n for n in (*texts, named) if cells.get(n) in (None, "")), "")
            skipped.append(f"{where} of {path}: {missing!r} is missing")
            continue
        whole: Text = (parts[0], parts[1]) if len(parts) == 2 else parts[0]
        try:
            found.append(Row(whole, float(target) if values else _name(target), f"{where} of {path}"))
        except ValueError:
            skipped.append(f"{where} of {path}: {target!r} is no number")
    if len(skipped) > TOO_MANY * len(lines):
        raise InputError(f"{len(skipped)} of {len(lines)} rows of {path} cannot be read", skipped[0], "mend them")
    return Rows(found, skipped, metric)


def _name(target: Any) -> str:
    return str(int(target)) if isinstance(target, float) and target == int(target) else str(target)


def _fractions(cells: Iterator[Any]) -> bool:
    return any(isinstance(cell, float) and math.isfinite(cell) and cell != int(cell) for cell in cells)


def _chosen(path: Path, header: tuple[str, ...], text: str, label: str) -> tuple[tuple[str, ...], str]:
    """The columns of the text and of the label."""
    texts = tuple(filter(None, text.split(","))) or next((t for t in TEXTS if set(t) <= set(header)), ())
    named = label or next((name for name in LABELS if name in header), "")
    if not texts or not named or len(texts) > 2:
        what = "one or two columns of text" if not texts or len(texts) > 2 else "a column of labels"
        how = "name them: text-classification?data=FILE&text=COLUMN&label=COLUMN"
        raise InputError(f"{path} needs {what}", f"its columns are {', '.join(map(str, header))}", how)
    for name in (*texts, named):
        if name not in header:
            known = ", ".join(header)
            raise InputError(f"{path} has no column {name!r}", f"its columns are {known}", suggest(name, header))
    return texts, named


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, cells by column). GLUE's TSV files quote nothing, so theirs are taken apart at tabs alone."""
    if path.suffix.lower() not in (".tsv", ".txt"):
        if path.suffix.lower() not in tables.SUFFIXES:
            raise InputError(f"{path} is no table of texts", next=f"give a {', '.join(tables.SUFFIXES)}, or a folder")
        for row in table_rows(path):
            yield row.where, row.cells
        return
    raw = _raw(path)
    header = next(raw, ("", []))[1]
    for where, cells in raw:
        yield where, dict(zip(header, cells, strict=False))


def _raw(path: Path) -> Iterator[tuple[str, list[str]]]:
    with os_errors("read", path), path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for number, line in enumerate(file, 1):
                if stripped := line.rstrip("\r\n"):
                    yield f"line {number}", stripped.split("\t")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error


def _is_cola(header: tuple[str, ...]) -> bool:
    return len(header) == 4 and header[1] in ("0", "1")


def score(metric: str, found: NDArray[Any], labels: NDArray[Any]) -> Scores:
    """GLUE's metrics by scikit-learn and SciPy, over rows of (said, true). Raises InputError for one that cannot be."""
    try:
        from scipy import stats
        from sklearn import metrics
    except ImportError as error:
        raise Missing.install(f"the metric {metric}", "scikit-learn", "metrics") from error
    values = labels.dtype.kind == "f"
    if values != (metric in ("pearson", "spearman")):
        kind = "values" if values else "classes"
        raise InputError(f"{metric} cannot be told", f"the labels are {kind}", "choose another: metric=")
    said = found.reshape(len(found)) if values else found.argmax(axis=1)
    average = "binary" if not values and found.shape[1] == 2 else "macro"

    def reduce(rows: NDArray[Any]) -> float:
        guess, true = rows.T
        if metric == "f1":
            return float(metrics.f1_score(true, guess, average=average, zero_division=0))
        if metric == "matthews":
            return float(metrics.matthews_corrcoef(true, guess))
        kind = stats.pearsonr if metric == "pearson" else stats.spearmanr
        return float(kind(true, guess).statistic) if np.ptp(true) and np.ptp(guess) else 0.0

    names = {"f1": "F1", "matthews": "Matthews correlation", "pearson": "Pearson's r", "spearman": "Spearman's ρ"}
    return Scores(names[metric], "fraction", True, np.stack([said, labels], axis=1).astype(np.float64), reduce)
