"""Reads rows of CSV, TSV, JSON Lines and Parquet one by one. An unreadable row has a `problem`."""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from edgekit.core import sandbox
from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.json import parse
from edgekit.core.progress import Progress
from edgekit.ondevice.table import parse_cell

#: rows of Parquet that are held at once
BATCH = 64

#: rows of a Parquet file, and CPU seconds that one may take beyond those for its size
MOST_ROWS, SECONDS_PER_ROW = 100_000_000, 4e-6

#: characters of a line; a row of numbers for a large image has 20 million
LONGEST_LINE = 1 << 26

#: of a message: columns that are listed, and characters of one's name
MOST_LISTED, LONGEST_NAME = 20, 80


@dataclass(frozen=True)
class Row:
    """`where` is, for example, "line 7"; `problem` says why the row is unreadable; `lines` counts its lines.

    A missing cell is None; in CSV and TSV, text that parses as a number becomes one.
    """

    where: str
    cells: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    lines: int = 1


def rows(path: Path) -> Iterator[Row]:
    """Raises InputError: not UTF-8 (with the line), no header, an unreadable file; Missing."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    try:
        yield from _json_lines(path) if suffix == ".jsonl" else _csv(path, "\t" if suffix == ".tsv" else ",")
    except UnicodeDecodeError as error:
        line, byte = _not_utf8(path)
        advice = f"save it as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8{path.suffix}"
        raise InputError(f"{path} is not UTF-8 text", f"line {line} holds the byte 0x{byte:02x}", advice) from error


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    """RFC 4180 with a header; spaces around a cell are ignored."""
    with os_errors("read", path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(_lines(file, path), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise InputError(f"{path}: the first line cannot be read", str(error), "fix it") from error
        _check_header(path, header, delimiter)
        while True:
            previous_line = reader.line_num
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(f"line {previous_line + 1}", problem=str(error), lines=reader.line_num - previous_line)
                continue
            if cells is None:
                return
            where, lines = f"line {previous_line + 1}", reader.line_num - previous_line
            if not cells:
                continue
            if len(cells) != len(header):
                yield Row(where, problem=f"it has {len(cells)} cells, the header {len(header)}", lines=lines)
                continue
            yield Row(where, {name: parse_cell(cell.strip()) for name, cell in zip(header, cells, strict=True)})


def _lines(file: IO[str], path: Path) -> Iterator[str]:
    """The lines of a text file. Raises InputError for one that is too long to be held in memory."""
    number = 1
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            why = f"line {number} has more than {LONGEST_LINE:,} characters"
            raise InputError(f"cannot read {path}", why, "give each sample a line of its own, or use an .npz")
        yield line
        number += 1


def _check_duplicates(path: Path, names: Sequence[str]) -> None:
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if duplicates:
        raise InputError(f"{path} has duplicate columns", listed(duplicates), "rename them")


def listed(names: Collection[str]) -> str:
    """The first names, with commas, and how many more there are."""
    shown = [name[:LONGEST_NAME] for name in itertools.islice(names, MOST_LISTED)]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


def _check_header(path: Path, header: list[str], delimiter: str) -> None:
    if not any(header):
        raise InputError(f"{path} is empty", "it has no header", "its first line must name the columns")
    _check_duplicates(path, header)
    if len(header) == 1 and ";" in header[0] and delimiter == ",":
        what = f"{path} is separated by semicolons"
        raise InputError(what, listed(header), "save it with commas, or as .tsv with tabs")
    if all(isinstance(parse_cell(name), int | float) for name in header):
        what = f"{path} has no header"
        why = f"its first line is {', '.join(name[:LONGEST_NAME] for name in header[:5])}"
        raise InputError(what, why, "add a first line with the column names")


def _json_lines(path: Path) -> Iterator[Row]:
    """One JSON object per line (https://jsonlines.org)."""
    with os_errors("read", path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(_lines(file, path), 1):
            if not line.strip():
                continue
            try:
                value = parse(line)
            except ValueError as error:
                yield Row(f"line {number}", problem=str(error))
                continue
            if not isinstance(value, dict):
                yield Row(f"line {number}", problem="it is not a JSON object")
                continue
            yield Row(f"line {number}", {str(k): _plain(v) for k, v in value.items()})


def _parquet(path: Path) -> Iterator[Row]:
    with os_errors("read", path):
        status = path.stat()
    _try_parquet(path, status.st_mtime_ns, status.st_size)
    with _parquet_file(path) as file:
        _check_duplicates(path, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(BATCH, use_threads=False):
            for value in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", {k: _plain(v) for k, v in value.items()})


@contextlib.contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Missing.install("reading Parquet", "pyarrow", "data") from error
    try:
        with os_errors("read", path), pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except MemoryError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"cannot read {path}", why, "check that it is a complete Parquet file") from error


@functools.lru_cache(maxsize=64)
def _try_parquet(path: Path, modified: int, size: int) -> None:
    """Read the whole file in a child with limits: a few bytes of Parquet can stand for any number of values.

    Raises InputError where a batch of rows takes too much memory.
    """
    with _parquet_file(path) as file:
        rows = file.metadata.num_rows
    if rows > MOST_ROWS:
        raise InputError(f"{path} is too large", f"it has {rows:,} rows, of at most {MOST_ROWS:,}", "split it")

    def read(progress: Progress) -> None:
        with _parquet_file(path) as file:
            for batch in file.iter_batches(BATCH, use_threads=False):
                batch.to_pylist()

    limits = sandbox.Limits.reading(size)
    sandbox.call(read, str(path), replace(limits, seconds=limits.seconds + SECONDS_PER_ROW * rows), warm=("pyarrow",))


def _plain(value: Any) -> Any:
    """Booleans as 0 and 1, integers beyond 64 bits as floats; other numbers, lists and text unchanged."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return float(value) if abs(value) < 1e300 else float("inf")
    if value is None or isinstance(value, int | float | list):
        return value
    return float(value) if isinstance(value, Decimal) else str(value)


def _not_utf8(path: Path) -> tuple[int, int]:
    """The first line that is not UTF-8, and the invalid byte."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(4 * LONGEST_LINE), b""), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, line[error.start]
    return 0, 0
