"""Tables: CSV, TSV, JSON Lines, Parquet. One row is one sample; the file is read twice and never held in memory.

The first pass finds the type of most cells of each column; a row with another type is unreadable. Columns become
inputs as follows:

- by the model's signature, if it names columns: missing cells and categories as in training (`ondevice/table.py`);
- if the model's inputs have the names of columns: each by its name;
- otherwise the columns named by `columns`, or all but those in `drop`, the label and `split`: numbers, booleans and
  categories of a row together, in the order of the file, as `input`, and each list as its own input (`columns.py`).
  For a model without a signature these are the numbers, since nothing says how its categories are encoded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, os_errors, suggest
from edgekit.core.signature import Column, InputSignature, plain
from edgekit.ondevice import table
from edgekit.sets import columns
from edgekit.sets.columns import Texts
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.preprocessing import normalize
from edgekit.sets.reading import SPLIT_NAMES, Item, UnreadableSample, log, split_of
from edgekit.sets.rows import Row, listed, rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LABEL, SPLIT = "label", "split"

#: columns of numbers that a signature names; more are known by their order only, as the pixels of an image are
MOST_RECORDED = 256
#: rows of a table whose columns may be said to count them
LEAST_ROWS = 20
#: columns that one message explains, and numbers that a median is taken of
MOST_SHOWN, MOST_OF_MEDIAN = 5, 1_000_000


@dataclass
class _Scan:
    """Results of the first pass."""

    count: int = 0
    readable: int = 0
    #: column → type of cell ("number", "text", "list") → count
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    #: column → its different cells, as text
    texts: dict[str, Texts] = field(default_factory=dict)
    #: columns that count the rows → their last number
    counters: dict[str, int] = field(default_factory=dict)
    #: columns that hold fractions
    fractions: set[str] = field(default_factory=set)
    #: values of the column `split` → where each first occurs
    splits: dict[str, str] = field(default_factory=dict)
    #: the first unreadable row, and why
    problem: str = ""

    def written(self, column: str) -> str:
        """The type of most of its cells: "number", "text" or "list"; "" if all are empty."""
        cells = self.kinds[column]
        return max(cells, key=lambda kind: (cells[kind], kind == "text"), default="")

    def kind(self, column: str) -> str:
        """As `written`, but text that is true or false everywhere is numbers."""
        kind = self.written(column)
        return "number" if kind == "text" and self.texts[column].are_booleans else kind

    def missing(self, column: str) -> int:
        """The number of its empty cells."""
        return self.readable - sum(self.kinds[column].values())

    def is_constant(self, column: str) -> bool:
        """Is it text that is the same in every row, or empty in every row?"""
        one_value = self.kind(column) in ("text", "") and self.texts[column].constant
        return one_value and self.missing(column) in (0, self.readable)


@dataclass(frozen=True)
class _Input:
    """One input: its columns, and the dtype and shape of its array (`shape` None: as in the first row)."""

    name: str
    columns: tuple[Column, ...]
    dtype: str
    shape: tuple[int, ...] | None
    is_list: bool = False

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The columns as plain values."""
        recorded: list[dict[str, Any]] = plain(InputSignature("table", columns=self.columns)).get("columns", [])
        return recorded


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
        self._split = (
            SPLIT if self._scan.splits and SPLIT not in (*self._labels, *options.columns, *options.drop) else ""
        )
        self.splits = self._splits()
        self._model_inputs = tuple(model_inputs)

    def __iter__(self) -> Iterator[Item]:
        yield from (item for _, item in self._rows())

    def _rows(self) -> Iterator[tuple[Row, Item]]:
        for index, row in enumerate(rows(self._path)):
            split = SPLIT_NAMES.get(str(row.cells.get(self._split)).lower(), "")
            name = f"{row.where} of {self._path}"
            yield row, Item(name, str(index), self._label(row), lambda row=row: self._values(row), split)  # type: ignore[misc]

    def decoded(self) -> Mapping[str, InputSignature]:
        """How rows became the inputs of a network that is trained on them."""
        if self._model_inputs or self._options.normalizes:
            return {}
        return {
            each.name: InputSignature("table", columns=each.columns)
            for each in self._inputs
            if not each.is_list and (len(each.columns) <= MOST_RECORDED or self._is_encoded(each.columns))
        }

    def _is_encoded(self, group: Sequence[Column]) -> bool:
        """Are there cells that are no numbers in the file?"""
        return columns.is_encoded(group) or any(self._scan.written(column.name) == "text" for column in group)

    def notes(self) -> tuple[str, ...]:
        used = {*self._labels, self._split, *self._options.drop}
        used |= {column.name for each in self._inputs for column in each.columns}
        unused = [name for name in self._scan.kinds if name not in used and not self._options.columns]
        constant = [name for name in unused if not self._model_inputs and self._scan.is_constant(name)]
        other = [name for name in unused if name not in constant]
        notes = [f"columns left out, the same in every row: {listed(constant)}"] if constant else []
        if other:
            notes.append(f"columns that are not used: {listed(other)}")
        return (*notes, *(self._encoding_notes() if not self._model_inputs else ()))

    def _encoding_notes(self) -> Iterator[str]:
        """How cells that are no numbers became some, and what looks like a number of the row."""
        scan = self._scan
        encoded = [column for each in self._inputs for column in each.columns]
        if texts := [f"{column.name} ({column.width})" for column in encoded if column.categories]:
            yield f"one-hot encoded: {listed(texts)}"
        if filled := [
            f"{column.name} ({scan.missing(column.name):,}: {column.missing:g})"
            for column in encoded
            if column.missing is not None
        ]:
            yield f"missing cells filled with training medians: {listed(filled)}"
        if counting := [column.name for column in encoded if scan.count >= LEAST_ROWS and column.name in scan.counters]:
            yield f"{listed(counting)} only counts the rows; leave it out: ?drop={columns.names(counting)}"

    def _label_columns(self) -> tuple[str, ...]:
        label_columns = tuple(name for name in self._options.label.split(",") if name)
        for name in (*label_columns, *self._options.columns, *self._options.drop):
            if name not in self._scan.kinds:
                known = tuple(filter(None, self._scan.kinds))
                what = f"{self._path} has no column {name!r}"
                raise InputError(what, f"its columns are {listed(known)}", suggest(name, known))
        left = (*self._options.columns, *self._options.drop)
        return label_columns or ((LABEL,) if LABEL in self._scan.kinds and LABEL not in left else ())

    def _splits(self) -> frozenset[str]:
        if not self._split:
            return frozenset()
        for value, where in self._scan.splits.items():
            if value.lower() not in SPLIT_NAMES:
                what = f"{self._path}, {where}: {value!r} in the column {SPLIT!r} is not a split"
                raise InputError(what, next="use train, val or test, or rename the column")
        return frozenset(SPLIT_NAMES[value.lower()] for value in self._scan.splits)

    @cached_property
    def _inputs(self) -> tuple[_Input, ...]:
        """The columns of each input."""
        scan, path, model_inputs = self._scan, self._path, self._model_inputs
        self._check_options([column.name for spec in model_inputs for column in columns_of(spec)])
        if model_inputs and all(columns_of(spec) or spec.name in scan.kinds for spec in model_inputs):
            return tuple(
                self._input(spec.name, columns_of(spec) or (Column(spec.name),), spec) for spec in model_inputs
            )
        excluded = {*self._labels, self._split, *self._options.drop} - {""}
        names = self._options.columns or tuple(name for name in scan.kinds if name not in excluded)
        if "" in names:
            why = "it may be an index written by pandas"
            raise InputError(f"{path} has a column without a name", why, "name it, or choose others with ?columns=a,b")
        lists = [name for name in names if scan.kind(name) == "list"]
        scalars = self._numbers(names) if model_inputs else self._encoded(names)
        groups = {**{name: (Column(name),) for name in lists}, **({"input": scalars} if scalars else {})}
        if not groups:
            raise InputError(f"{path} has no columns for inputs", f"it has only {listed(scan.kinds)}", "add columns")
        if not model_inputs:
            return tuple(self._input(name, group, None) for name, group in groups.items())
        if len(model_inputs) == len(groups) == 1:
            return (self._input(model_inputs[0].name, next(iter(groups.values())), model_inputs[0]),)
        why = f"the model takes {', '.join(spec.name for spec in model_inputs)}; the columns are {listed(names)}"
        raise InputError(f"{path} does not fit the model", why, "rename the columns, or choose some with ?columns=a,b")

    def _check_options(self, taken: Sequence[str]) -> None:
        """Raises InputError if `columns` or `drop` leave out what the model takes by its signature."""
        chosen, dropped = self._options.columns, self._options.drop
        absent = [name for name in taken if name in dropped or (chosen and name not in chosen)]
        if absent:
            option = "drop" if dropped else "columns"
            what = f"{self._path}: the option {option} leaves out {listed(absent)}"
            raise InputError(what, f"the model takes {listed(taken)}", f"leave out ?{option}=, or train again with it")

    def _numbers(self, names: Sequence[str]) -> tuple[Column, ...]:
        """The numbers, for a model that does not say how it takes text. Raises InputError if there are none.

        Booleans that are text are used only if they are chosen, as before signatures named columns.
        """
        kind_of = self._scan.kind if self._options.columns else self._scan.written
        text = [name for name in names if kind_of(name) in ("text", "")]
        if text and (self._options.columns or len(text) == len(names)):
            raise InputError(f"{self._path}: {text[0]!r} holds text", "inputs must be numbers", "choose other columns")
        if text:
            log.debug("%s: text columns are not used: %s", self._path, ", ".join(text))
        return tuple(Column(name) for name in names if kind_of(name) == "number")

    def _encoded(self, names: Sequence[str]) -> tuple[Column, ...]:
        """Numbers and categories, for a network that is trained on them.

        Raises InputError, naming every column that is neither.
        """
        scan, path = self._scan, self._path
        kinds = {name: scan.kind(name) for name in names}
        left_out = {name for name in names if scan.is_constant(name)}
        if named := [name for name in self._options.columns if name in left_out]:
            raise InputError(
                f"{path}: {named[0]!r} is the same in every row", "it tells nothing", "choose other columns"
            )
        text = [name for name in names if kinds[name] == "text" and name not in left_out]
        problems = {name: problem for name in text if (problem := scan.texts[name].problem(scan.count))}
        if problems:
            shown = "; ".join(f"{name!r} holds {problem}" for name, problem in list(problems.items())[:MOST_SHOWN])
            more = f"; and {len(problems) - MOST_SHOWN} more columns" if len(problems) > MOST_SHOWN else ""
            dropped = columns.names(list(problems))
            why = f"a network takes numbers, and text of at most {columns.MOST_CATEGORIES} categories"
            next = f"write them as numbers, or leave them out: ?drop={dropped} (DataFrame.drop)"
            raise InputError(f"{path}: {shown}{more}", why, next)
        numbers = [name for name in names if kinds[name] == "number"]
        if self._options.normalizes:
            self._check_normalized([*text, *numbers])
        medians = self._medians([name for name in numbers if scan.missing(name)])
        return tuple(
            Column(name, missing=medians.get(name))
            if kinds[name] == "number"
            else Column(name, scan.texts[name].categories(bool(scan.missing(name))))
            for name in names
            if kinds[name] in ("number", "text") and name not in left_out
        )

    def _check_normalized(self, names: Sequence[str]) -> None:
        """Raises InputError for what the signature would have to keep: it keeps no columns that are normalized."""
        for name in names:
            is_text = self._scan.written(name) == "text"
            if is_text or self._scan.missing(name):
                what = f"{self._path}: scale, mean and std are for numbers only"
                why = f"{name!r} {'holds text' if is_text else 'has missing cells'}"
                raise InputError(what, why, "leave them out: mlp standardizes its inputs itself")

    def _medians(self, names: Sequence[str]) -> dict[str, float]:
        """Column → median of its numbers in the training rows. Raises InputError if there are none."""
        values: dict[str, list[float]] = {name: [] for name in names}
        for row, item in self._rows() if names else ():
            if split_of(item, self.splits) == "train":
                for name in names:
                    cell = row.cells.get(name)
                    if len(values[name]) < MOST_OF_MEDIAN and not isinstance(cell, list) and not table.is_missing(cell):
                        with suppress(ValueError):
                            values[name].append(float(table.number(name, cell, None)))
        if empty := [name for name in names if not values[name]]:
            what = f"{self._path}: {empty[0]!r} is missing in every training row"
            raise InputError(what, "nothing says what it could be", f"leave it out: ?drop={columns.names(empty)}")
        return {name: float(np.median(values[name])) for name in names}

    def _input(self, name: str, group: tuple[Column, ...], spec: TensorSpec | None) -> _Input:
        scan = self._scan
        names = tuple(column.name for column in group)
        if absent := [each for each in names if each not in scan.kinds]:
            why = f"the model takes it; the columns are {listed(scan.kinds)}"
            raise InputError(f"{self._path} has no column {absent[0]!r}", why, suggest(absent[0], tuple(scan.kinds)))
        plain_columns = [column.name for column in group if not column.categories]
        text_column = next((column for column in plain_columns if scan.kind(column) in ("text", "")), None)
        if text_column is not None and spec is not None and not columns_of(spec):
            raise InputError(
                f"{self._path}: {text_column!r} holds text", f"the model takes {spec}", "write it as numbers"
            )
        is_integer = not scan.fractions & set(names)
        is_list = scan.kind(names[0]) == "list" and not (spec and columns_of(spec))
        if spec is None:
            return _Input(name, group, "int64" if is_list and is_integer else "float32", None, is_list)
        dtype = spec.dtype if spec.quantization is None else "float32"
        if dtype in ("string", "sequence"):
            raise InputError(f"the model takes {spec}", f"{self._path} holds numbers", "use another set")
        if "float" not in dtype and not is_integer:
            problem = next(column for column in names if column in scan.fractions)
            raise InputError(f"{self._path}: {problem!r} holds fractions", f"the model takes {spec}")
        fixed = tuple(size for size in spec.shape[1:] if size is not None)
        shape = fixed if len(fixed) == len(spec.shape) - 1 else None
        width = sum(column.width for column in group)
        if not is_list and (math.prod(fixed) != width if shape is not None else len(spec.shape) != 2):
            why = f"the model takes {spec}; the columns are {listed(names)}"
            what = f"{self._path} has {width} columns of numbers for {name!r}"
            advice = "choose columns with ?columns=a,b, name the label with ?label=c, or train again"
            raise InputError(what, why, advice)
        return _Input(name, group, dtype, shape, is_list)

    def _label(self, row: Row) -> Raw | None:
        """None if it is missing, or of another type than its column."""
        cells = [row.cells.get(name) for name in self._labels]
        kinds = [self._scan.written(name) for name in self._labels]
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
        if self.labelled and self._label(row) is None:
            missing = next((name for name in self._labels if row.cells.get(name) is None), "")
            raise UnreadableSample(
                f"{missing!r} is missing" if missing else f"its label is {row.cells[self._labels[0]]!r}"
            )
        return {input_spec.name: self._array(row, input_spec) for input_spec in self._inputs}

    def _array(self, row: Row, of_input: _Input) -> NDArray[Any]:
        try:
            cells = self._list(row, of_input) if of_input.is_list else table.encode(row.cells, of_input.records)
            with np.errstate(over="ignore"):
                array = np.asarray(cells, None if "float" not in of_input.dtype else np.float64)
                array = array.astype(of_input.dtype)
                array = array if of_input.shape is None else array.reshape(of_input.shape)
        except OverflowError as error:
            raise UnreadableSample(f"{of_input.name!r} cannot be converted: {error}") from error
        except (ValueError, TypeError) as error:
            raise UnreadableSample(str(error)) from error
        return normalize(array, self._options, -1 if array.ndim else None)

    def _list(self, row: Row, of_input: _Input) -> list[Any]:
        value = row.cells.get(of_input.columns[0].name)
        if not isinstance(value, list):
            is_ = "missing" if value is None else f"{value!r}, the other rows hold a list"
            raise UnreadableSample(f"{of_input.columns[0].name!r} is {is_}")
        return value


def columns_of(spec: TensorSpec) -> tuple[Column, ...]:
    """The columns that an input is made of, by its signature."""
    return spec.signature.columns if isinstance(spec.signature, InputSignature) else ()


def encoded_like(inputs: Sequence[TensorSpec], task: str) -> tuple[TensorSpec, ...]:
    """The inputs, if they say how rows of a table are encoded: the file may have other rows since the training.

    Also the only input of a model of a table that names no columns: it takes the numbers.
    """
    of_numbers = len(inputs) == 1 and (inputs[0].dtype == "float32" or inputs[0].quantization is not None)
    is_table = task.partition("?")[0].lower().endswith(SUFFIXES)
    return tuple(inputs) if any(map(columns_of, inputs)) or (is_table and of_numbers) else ()


def encode(name: str, cells: Sequence[tuple[str, Mapping[str, Any]]], spec: TensorSpec) -> NDArray[Any]:
    """Rows, and where they are, as the input `spec` takes them: (N, …). Raises InputError, naming row and column.

    `name` is that of the whole table.
    """
    records = plain(InputSignature("table", columns=columns_of(spec)))["columns"]
    if cells and (absent := table.absent([row for _, row in cells], records)):
        why = f"the model takes it; the columns are {listed(cells[0][1])}"
        raise InputError(f"{name} has no column {absent[0]!r}", why, suggest(absent[0], tuple(cells[0][1])))
    values = []
    for where, row in cells:
        try:
            values.append(table.encode(row, records))
        except ValueError as error:
            what = f"{where} does not fit the model"
            raise InputError(what, str(error), "give each column as in the training data") from error
    shape = [size or -1 for size in spec.shape[1:]]
    with np.errstate(over="ignore"):
        array = np.asarray(values, np.float32).reshape(len(values), *shape)
    for (where, _), sample in zip(cells, array, strict=True):
        if not np.isfinite(sample).all():
            raise InputError(f"{where} does not fit the model", "a number is too large for float32", "fix it")
    return array


def read_rows(path: Path, spec: TensorSpec) -> NDArray[Any]:
    """All rows of a file as the input `spec` takes them, by its signature; labels are not needed. Raises InputError."""
    found = list(rows(path))
    if broken := next((row for row in found if row.problem), None):
        raise InputError(f"cannot read {path}", f"{broken.where}: {broken.problem}", "fix it")
    if not found:
        raise InputError(f"{path} holds no rows", next="add one below the header")
    return encode(str(path), [(f"{row.where} of {path}", row.cells) for row in found], spec)


@lru_cache(maxsize=4)
def _scan_file(path: Path, mtime: int, size: int) -> _Scan:
    """The first pass; cached while the file does not change."""
    scan = _Scan()
    for row in rows(path):
        scan.count += 1
        if row.problem and not scan.problem:
            scan.problem = f"{row.where}: {row.problem}"
        scan.readable += not row.problem
        for name, value in row.cells.items():
            cells = scan.kinds.setdefault(name, Counter())
            texts = scan.texts.setdefault(name, Texts())
            _count_rows(scan, name, value)
            if table.is_missing(value):
                continue
            if not isinstance(value, list):
                texts.add(str(value))
            kind = "list" if isinstance(value, list) else "text" if isinstance(value, str) else "number"
            cells[kind] += 1
            if kind != "text" and name not in scan.fractions and _has_fraction(value):
                scan.fractions.add(name)
            if name == SPLIT and kind == "text":
                scan.splits.setdefault(value, row.where)
    return scan


def _count_rows(scan: _Scan, name: str, value: Any) -> None:
    """Keep the column in `counters` as long as each cell is the one before plus one."""
    if isinstance(value, int) and (scan.count == 1 or scan.counters.get(name) == value - 1):
        scan.counters[name] = value
    else:
        scan.counters.pop(name, None)


def _has_fraction(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_fraction, value))
    return isinstance(value, float) and math.isfinite(value)
