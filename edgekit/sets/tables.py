"""Tables: CSV, TSV, JSON Lines, Parquet. One row is one sample; the file is gone through twice and never held whole.

The first pass finds what most cells of each column are; one that is unlike them breaks its row. Which columns
become which inputs:

- those that `columns` picks, else all but the label and `split`, text left out;
- where the model's inputs are called as columns are: each by its name;
- otherwise the numbers of a row together, in the order of the file, as `input`, and each list on its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, os_errors, suggest
from edgekit.sets.images import normalized
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.reading import SPLIT_NAMES, Item, UnreadableSample, log
from edgekit.sets.rows import Row, rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LABEL, SPLIT = "label", "split"


@dataclass
class _Scan:
    """What the first pass found."""

    count: int = 0
    #: column → kind of cell ("number", "text", "list") → how many
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    #: columns that hold anything but whole numbers
    fractions: set[str] = field(default_factory=set)
    #: what the column `split` holds, and where it first does
    splits: dict[str, str] = field(default_factory=dict)
    #: the first broken row, and what is wrong with it
    broken: str = ""

    def kind(self, column: str) -> str:
        """What most of its cells are; "text" where all are empty."""
        cells = self.kinds[column]
        return max(cells, key=lambda kind: cells[kind], default="text")


@dataclass(frozen=True)
class _Input:
    """One input: its columns, and how their values become its array. `shape`: None where the first row decides."""

    name: str
    columns: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...] | None


class Table:
    """Rows as samples. Raises InputError where the columns do not make what the model takes, Missing."""

    def __init__(self, path: Path, options: Options, like: Sequence[TensorSpec]) -> None:
        self._path, self._options = path, options
        with os_errors("read", path):
            stat = path.stat()
        self._scan = _scanned(path.absolute(), stat.st_mtime_ns, stat.st_size)
        self.count: int | None = self._scan.count
        if not self._scan.count:
            raise InputError(f"{path} holds no samples", "it has a header but no rows", "give it some")
        if not self._scan.kinds:
            raise InputError(f"no row of {path} can be read", self._scan.broken, "mend it")
        self._labels = self._label_columns()
        self.labelled = bool(self._labels)
        self._split = SPLIT if self._scan.splits and SPLIT not in (*self._labels, *options.columns) else ""
        self.splits = self._splits()
        self._inputs = self._chosen(like)

    def __iter__(self) -> Iterator[Item]:
        for index, row in enumerate(rows(self._path)):
            split = SPLIT_NAMES.get(str(row.cells.get(self._split)).lower(), "")
            name = f"{row.where} of {self._path}"
            yield Item(name, str(index), self._label(row), lambda row=row: self._values(row), split)  # type: ignore[misc]

    def _label_columns(self) -> tuple[str, ...]:
        named = tuple(name for name in self._options.label.split(",") if name)
        for name in (*named, *self._options.columns):
            if name not in self._scan.kinds:
                known = tuple(filter(None, self._scan.kinds))
                what = f"{self._path} has no column {name!r}"
                raise InputError(what, f"its columns are {', '.join(known)}", suggest(name, known))
        return named or ((LABEL,) if LABEL in self._scan.kinds and LABEL not in self._options.columns else ())

    def _splits(self) -> frozenset[str]:
        if not self._split:
            return frozenset()
        for value, where in self._scan.splits.items():
            if value.lower() not in SPLIT_NAMES:
                what = f"{self._path}, {where}: {value!r} in the column {SPLIT!r} is no split"
                raise InputError(what, next="write train, val or test, or call the column otherwise")
        return frozenset(SPLIT_NAMES[value.lower()] for value in self._scan.splits)

    def _chosen(self, like: Sequence[TensorSpec]) -> tuple[_Input, ...]:
        """Which columns become which inputs."""
        scan, path = self._scan, self._path
        apart = {*self._labels, *([self._split] if self._split else [])}
        names = self._options.columns or tuple(name for name in scan.kinds if name not in apart)
        if like and all(spec.name in scan.kinds for spec in like):
            return tuple(self._input(spec.name, (spec.name,), spec) for spec in like)
        if "" in names:
            why = "an index that pandas wrote?"
            raise InputError(f"{path} has a column without a name", why, "name it, or pick others with ?columns=a,b")
        text = [name for name in names if scan.kind(name) == "text"]
        if text and (self._options.columns or len(text) == len(names)):
            raise InputError(f"{path}: {text[0]!r} holds text", "an input is made of numbers", "pick other columns")
        if text:
            log.info("%s: columns of text are left out: %s", path, ", ".join(text))
        numbers = tuple(name for name in names if scan.kind(name) == "number")
        lists = [name for name in names if scan.kind(name) == "list"]
        groups = {**{name: (name,) for name in lists}, **({"input": numbers} if numbers else {})}
        if not groups:
            raise InputError(f"{path} has no columns for inputs", f"only {', '.join(scan.kinds)}", "add some")
        if not like:
            return tuple(self._input(name, columns, None) for name, columns in groups.items())
        if len(like) == len(groups) == 1:
            return (self._input(like[0].name, next(iter(groups.values())), like[0]),)
        taken = f"the model takes {', '.join(spec.name for spec in like)}; the columns are {', '.join(names)}"
        raise InputError(f"{path} does not fit the model", taken, "name the columns so, or pick with ?columns=a,b")

    def _input(self, name: str, columns: tuple[str, ...], spec: TensorSpec | None) -> _Input:
        scan = self._scan
        wrong = next((column for column in columns if scan.kind(column) == "text"), None)
        if wrong is not None:
            raise InputError(f"{self._path}: {wrong!r} holds text", f"the model takes {spec}", "write it as numbers")
        whole = not scan.fractions & set(columns)
        is_list = scan.kind(columns[0]) == "list"
        if spec is None:
            return _Input(name, columns, "int64" if is_list and whole else "float32", None)
        dtype = spec.dtype if spec.quantization is None else "float32"
        if dtype in ("string", "sequence"):
            raise InputError(f"the model takes {spec}", f"{self._path} holds numbers", "give it another set")
        if "float" not in dtype and not whole:
            broken = next(column for column in columns if column in scan.fractions)
            raise InputError(f"{self._path}: {broken!r} holds fractions", f"the model takes {spec}")
        fixed = tuple(size for size in spec.shape[1:] if size is not None)
        shape = fixed if len(fixed) == len(spec.shape) - 1 else None
        if not is_list and (math.prod(fixed) != len(columns) if shape is not None else len(spec.shape) != 2):
            said = f"the model takes {spec}; the columns are {', '.join(columns)}"
            what = f"{self._path} has {len(columns)} columns of numbers for {name!r}"
            raise InputError(what, said, "pick them with ?columns=a,b, or name the label with ?label=c")
        return _Input(name, columns, dtype, shape)

    def _label(self, row: Row) -> Raw | None:
        """None where it is missing, or unlike the rest of its column."""
        found = [row.cells.get(name) for name in self._labels]
        kinds = [self._scan.kind(name) for name in self._labels]
        if not found or any(value is None for value in found):
            return None
        if len(found) == 1 and kinds == ["list"] and isinstance(found[0], list):
            found, kinds = found[0], ["number"] * len(found[0])
        elif len(found) == 1 and kinds == ["text"]:
            return str(found[0]) if not isinstance(found[0], list) else None
        elif len(found) == 1 and isinstance(found[0], int | float):
            # one fraction makes the column one of values
            value = float(found[0]) if self._labels[0] in self._scan.fractions else found[0]
            return value if math.isfinite(value) else None
        numbers = [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]
        if "text" in kinds:
            named = ", ".join(self._labels)
            raise InputError(f"{self._path}: several labels must be numbers", named, "name one with ?label=")
        return tuple(numbers) if len(numbers) == len(found) > 0 else None

    def _values(self, row: Row) -> Mapping[str, NDArray[Any]]:
        if row.broken:
            raise UnreadableSample(row.broken, row.lines)
        if self._labels and self._label(row) is None:
            missing = next((name for name in self._labels if row.cells.get(name) is None), "")
            raise UnreadableSample(
                f"{missing!r} is missing" if missing else f"its label is {row.cells[self._labels[0]]!r}"
            )
        return {chosen.name: self._array(row, chosen) for chosen in self._inputs}

    def _array(self, row: Row, chosen: _Input) -> NDArray[Any]:
        values = []
        for name in chosen.columns:
            value, kind = row.cells.get(name), self._scan.kind(name)
            if value is None:
                raise UnreadableSample(f"{name!r} is missing")
            if isinstance(value, str) or isinstance(value, list) != (kind == "list"):
                raise UnreadableSample(f"{name!r} is {value!r}, the other rows hold a {kind}")
            if kind == "number" and not math.isfinite(value):
                raise UnreadableSample(f"{name!r} is {value}")
            values.append(value)
        try:
            with np.errstate(over="ignore"):
                whole = values[0] if self._scan.kind(chosen.columns[0]) == "list" else values
                array = np.asarray(whole, None if "float" not in chosen.dtype else np.float64).astype(chosen.dtype)
                array = array if chosen.shape is None else array.reshape(chosen.shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise UnreadableSample(f"{chosen.name!r} cannot be made of it: {error}") from error
        return normalized(array, self._options, -1 if array.ndim else None)


@lru_cache(maxsize=4)
def _scanned(path: Path, changed: int, size: int) -> _Scan:
    """The first pass; kept while the file does not change."""
    scan = _Scan()
    for row in rows(path):
        scan.count += 1
        if row.broken and not scan.broken:
            scan.broken = f"{row.where}: {row.broken}"
        for name, value in row.cells.items():
            cells = scan.kinds.setdefault(name, Counter())
            if value is None:
                continue
            kind = "list" if isinstance(value, list) else "text" if isinstance(value, str) else "number"
            cells[kind] += 1
            if kind != "text" and name not in scan.fractions and _fractional(value):
                scan.fractions.add(name)
            if name == SPLIT and kind == "text":
                scan.splits.setdefault(value, row.where)
    return scan


def _fractional(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_fractional, value))
    return isinstance(value, float) and math.isfinite(value)
