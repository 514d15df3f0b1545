"""Tables: CSV, TSV, JSON Lines, Parquet. One row is one sample; the file is read twice and never held in memory.

The first pass finds the type of most cells of each column; a row with another type is unreadable. Columns become
inputs as follows:

- the columns named by `columns`, else all but the label, `split` and text;
- if the model's inputs have the names of columns: each by its name;
- otherwise all numbers of a row together, in the order of the file, as `input`, and each list as its own input.
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
from edgekit.core.signature import InputSignature
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.preprocessing import normalize
from edgekit.sets.reading import SPLIT_NAMES, Item, UnreadableSample, log
from edgekit.sets.rows import Row, listed, rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LABEL, SPLIT = "label", "split"


@dataclass
class _Scan:
    """Results of the first pass."""

    count: int = 0
    #: column → type of cell ("number", "text", "list") → count
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    #: columns that hold fractions
    fractions: set[str] = field(default_factory=set)
    #: values of the column `split` → where each first occurs
    splits: dict[str, str] = field(default_factory=dict)
    #: the first unreadable row, and why
    problem: str = ""

    def kind(self, column: str) -> str:
        """The type of most of its cells; "text" if all are empty."""
        cells = self.kinds[column]
        return max(cells, key=lambda kind: cells[kind], default="text")


@dataclass(frozen=True)
class _Input:
    """One input: its columns, and the dtype and shape of its array (`shape` None: as in the first row)."""

    name: str
    columns: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...] | None


class Table:
    """Rows as samples. Raises InputError if the columns do not fit the model's inputs, Missing."""

    def __init__(self, path: Path, options: Options, model_inputs: Sequence[TensorSpec]) -> None:
        self._path, self._options = path, options
        with os_errors("read", path):
            stat = path.stat()
        self._scan = _scan_file(path.absolute(), stat.st_mtime_ns, stat.st_size)
        self.count: int | None = self._scan.count
        if not self._scan.count:
            raise InputError(f"{path} holds no samples", "it has a header but no rows", "add rows")
        if not self._scan.kinds:
            raise InputError(f"no row of {path} can be read", self._scan.problem, "fix it")
        self._labels = self._label_columns()
        self.labelled = bool(self._labels)
        self._split = SPLIT if self._scan.splits and SPLIT not in (*self._labels, *options.columns) else ""
        self.splits = self._splits()
        self._inputs = self._map_inputs(model_inputs)
        used = {*self._labels, self._split, *(column for each in self._inputs for column in each.columns)}
        unused = [name for name in self._scan.kinds if name not in used]
        self._notes: tuple[str, ...] = ()
        if unused and not options.columns:
            self._notes = (f"columns that are not used: {listed(unused)}",)

    def __iter__(self) -> Iterator[Item]:
        for index, row in enumerate(rows(self._path)):
            split = SPLIT_NAMES.get(str(row.cells.get(self._split)).lower(), "")
            name = f"{row.where} of {self._path}"
            yield Item(name, str(index), self._label(row), lambda row=row: self._values(row), split)  # type: ignore[misc]

    def decoded(self) -> Mapping[str, InputSignature]:
        return {}

    def notes(self) -> tuple[str, ...]:
        return self._notes

    def _label_columns(self) -> tuple[str, ...]:
        label_columns = tuple(name for name in self._options.label.split(",") if name)
        for name in (*label_columns, *self._options.columns):
            if name not in self._scan.kinds:
                known = tuple(filter(None, self._scan.kinds))
                what = f"{self._path} has no column {name!r}"
                raise InputError(what, f"its columns are {listed(known)}", suggest(name, known))
        return label_columns or ((LABEL,) if LABEL in self._scan.kinds and LABEL not in self._options.columns else ())

    def _splits(self) -> frozenset[str]:
        if not self._split:
            return frozenset()
        for value, where in self._scan.splits.items():
            if value.lower() not in SPLIT_NAMES:
                what = f"{self._path}, {where}: {value!r} in the column {SPLIT!r} is not a split"
                raise InputError(what, next="use train, val or test, or rename the column")
        return frozenset(SPLIT_NAMES[value.lower()] for value in self._scan.splits)

    def _map_inputs(self, model_inputs: Sequence[TensorSpec]) -> tuple[_Input, ...]:
        """The columns of each input."""
        scan, path = self._scan, self._path
        excluded = {*self._labels, *([self._split] if self._split else [])}
        names = self._options.columns or tuple(name for name in scan.kinds if name not in excluded)
        if model_inputs and all(spec.name in scan.kinds for spec in model_inputs):
            return tuple(self._input(spec.name, (spec.name,), spec) for spec in model_inputs)
        if "" in names:
            why = "it may be an index written by pandas"
            raise InputError(f"{path} has a column without a name", why, "name it, or choose others with ?columns=a,b")
        text = [name for name in names if scan.kind(name) == "text"]
        if text and (self._options.columns or len(text) == len(names)):
            raise InputError(f"{path}: {text[0]!r} holds text", "inputs must be numbers", "choose other columns")
        if text:
            log.debug("%s: text columns are not used: %s", path, ", ".join(text))
        numbers = tuple(name for name in names if scan.kind(name) == "number")
        lists = [name for name in names if scan.kind(name) == "list"]
        groups = {**{name: (name,) for name in lists}, **({"input": numbers} if numbers else {})}
        if not groups:
            raise InputError(f"{path} has no columns for inputs", f"it has only {listed(scan.kinds)}", "add columns")
        if not model_inputs:
            return tuple(self._input(name, columns, None) for name, columns in groups.items())
        if len(model_inputs) == len(groups) == 1:
            return (self._input(model_inputs[0].name, next(iter(groups.values())), model_inputs[0]),)
        why = f"the model takes {', '.join(spec.name for spec in model_inputs)}; the columns are {listed(names)}"
        raise InputError(f"{path} does not fit the model", why, "rename the columns, or choose some with ?columns=a,b")

    def _input(self, name: str, columns: tuple[str, ...], spec: TensorSpec | None) -> _Input:
        scan = self._scan
        text_column = next((column for column in columns if scan.kind(column) == "text"), None)
        if text_column is not None:
            raise InputError(
                f"{self._path}: {text_column!r} holds text", f"the model takes {spec}", "write it as numbers"
            )
        is_integer = not scan.fractions & set(columns)
        is_list = scan.kind(columns[0]) == "list"
        if spec is None:
            return _Input(name, columns, "int64" if is_list and is_integer else "float32", None)
        dtype = spec.dtype if spec.quantization is None else "float32"
        if dtype in ("string", "sequence"):
            raise InputError(f"the model takes {spec}", f"{self._path} holds numbers", "use another set")
        if "float" not in dtype and not is_integer:
            problem = next(column for column in columns if column in scan.fractions)
            raise InputError(f"{self._path}: {problem!r} holds fractions", f"the model takes {spec}")
        fixed = tuple(size for size in spec.shape[1:] if size is not None)
        shape = fixed if len(fixed) == len(spec.shape) - 1 else None
        if not is_list and (math.prod(fixed) != len(columns) if shape is not None else len(spec.shape) != 2):
            why = f"the model takes {spec}; the columns are {listed(columns)}"
            what = f"{self._path} has {len(columns)} columns of numbers for {name!r}"
            raise InputError(what, why, "choose columns with ?columns=a,b, or name the label with ?label=c")
        return _Input(name, columns, dtype, shape)

    def _label(self, row: Row) -> Raw | None:
        """None if it is missing, or of another type than its column."""
        cells = [row.cells.get(name) for name in self._labels]
        kinds = [self._scan.kind(name) for name in self._labels]
        if not cells or any(value is None for value in cells):
            return None
        if len(cells) == 1 and kinds == ["list"] and isinstance(cells[0], list):
            cells, kinds = cells[0], ["number"] * len(cells[0])
        elif len(cells) == 1 and kinds == ["text"]:
            return str(cells[0]) if not isinstance(cells[0], list) else None
        elif len(cells) == 1 and isinstance(cells[0], int | float):
            # one fraction makes all labels regression targets
            value = float(cells[0]) if self._labels[0] in self._scan.fractions else cells[0]
            return value if math.isfinite(value) else None
        numbers = [float(value) for value in cells if isinstance(value, int | float) and math.isfinite(value)]
        if "text" in kinds:
            label_columns = ", ".join(self._labels)
            raise InputError(f"{self._path}: several labels must be numbers", label_columns, "name one with ?label=")
        return tuple(numbers) if len(numbers) == len(cells) > 0 else None

    def _values(self, row: Row) -> Mapping[str, NDArray[Any]]:
        if row.problem:
            raise UnreadableSample(row.problem, row.lines)
        if self._labels and self._label(row) is None:
            missing = next((name for name in self._labels if row.cells.get(name) is None), "")
            raise UnreadableSample(
                f"{missing!r} is missing" if missing else f"its label is {row.cells[self._labels[0]]!r}"
            )
        return {input_spec.name: self._array(row, input_spec) for input_spec in self._inputs}

    def _array(self, row: Row, input_spec: _Input) -> NDArray[Any]:
        values = []
        for name in input_spec.columns:
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
                cells = values[0] if self._scan.kind(input_spec.columns[0]) == "list" else values
                array = np.asarray(cells, None if "float" not in input_spec.dtype else np.float64)
                array = array.astype(input_spec.dtype)
                array = array if input_spec.shape is None else array.reshape(input_spec.shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise UnreadableSample(f"{input_spec.name!r} cannot be converted: {error}") from error
        return normalize(array, self._options, -1 if array.ndim else None)


@lru_cache(maxsize=4)
def _scan_file(path: Path, mtime: int, size: int) -> _Scan:
    """The first pass; cached while the file does not change."""
    scan = _Scan()
    for row in rows(path):
        scan.count += 1
        if row.problem and not scan.problem:
            scan.problem = f"{row.where}: {row.problem}"
        for name, value in row.cells.items():
            cells = scan.kinds.setdefault(name, Counter())
            if value is None:
                continue
            kind = "list" if isinstance(value, list) else "text" if isinstance(value, str) else "number"
            cells[kind] += 1
            if kind != "text" and name not in scan.fractions and _has_fraction(value):
                scan.fractions.add(name)
            if name == SPLIT and kind == "text":
                scan.splits.setdefault(value, row.where)
    return scan


def _has_fraction(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_fraction, value))
    return isinstance(value, float) and math.isfinite(value)
