"""Files of rows → rows one by one: CSV, TSV, JSON Lines, Parquet. A broken row is a value with a reason."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError, Missing, os_errors

BATCH = 1024

#: how tables write that a value is not there
ABSENT = ("", "NA", "N/A", "null", "NULL")


@dataclass(frozen=True)
class Row:
    """`where` is "line 7"; `broken` says what is wrong with it, `lines` how many lines of the file it took up.

    A cell that is not there is None; in CSV and TSV, text that reads as a number is one.
    """

    where: str
    cells: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""
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
        mend = f"save it as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8{path.suffix}"
        raise InputError(f"{path} is not UTF-8 text", f"line {line} holds the byte 0x{byte:02x}", mend) from error


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    """RFC 4180, with a header; spaces around a cell do not count."""
    with os_errors("read", path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise InputError(f"{path}: the first line cannot be read", str(error), "mend it") from error
        _check_header(path, header, delimiter)
        while True:
            before = reader.line_num
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(f"line {before + 1}", broken=str(error), lines=reader.line_num - before)
                continue
            if cells is None:
                return
            where, lines = f"line {before + 1}", reader.line_num - before
            if not cells:
                continue
            if len(cells) != len(header):
                yield Row(where, broken=f"it has {len(cells)} cells, the header {len(header)}", lines=lines)
                continue
            yield Row(where, {name: _number(cell.strip()) for name, cell in zip(header, cells, strict=True)})


def _check_header(path: Path, header: list[str], delimiter: str) -> None:
    if not any(header):
        raise InputError(f"{path} is empty", "it has no header", "its first line must name the columns")
    doubled = sorted({name for name in header if header.count(name) > 1 and name})
    if doubled:
        raise InputError(f"{path} has columns of one name", ", ".join(doubled), "give each a name of its own")
    if len(header) == 1 and ";" in header[0] and delimiter == ",":
        raise InputError(f"{path} is separated by semicolons", header[0], "save it with commas, or as .tsv with tabs")
    if all(isinstance(_number(name), int | float) for name in header):
        what = f"{path} has no header"
        raise InputError(what, f"its first line is {', '.join(header[:5])}", "write a line above it with names")


def _number(cell: str) -> Any:
    """An int that fits 64 bits, else a float, else the text; None where the cell is empty."""
    if cell in ABSENT:
        return None
    if not cell.isascii() or "_" in cell:
        return cell
    try:
        whole = int(cell)
        return whole if abs(whole) < 2**63 else float(whole)
    except (ValueError, OverflowError):
        pass
    try:
        return float(cell)
    except ValueError:
        return cell


def _json_lines(path: Path) -> Iterator[Row]:
    """One JSON object per line (https://jsonlines.org)."""
    with os_errors("read", path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Row(f"line {number}", broken=f"it is not JSON: {error}")
                continue
            if not isinstance(found, dict):
                yield Row(f"line {number}", broken="it is not a JSON object")
                continue
            yield Row(f"line {number}", {str(k): _plain(v) for k, v in found.items()})


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Missing.install("reading Parquet", "pyarrow", "data") from error
    try:
        with os_errors("read", path), pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise InputError(f"{path} has columns of one name", ", ".join(doubled), "give each a name of its own")
            number = 0
            for batch in file.iter_batches(BATCH, use_threads=False):
                for found in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", {k: _plain(v) for k, v in found.items()})
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"cannot read {path}", why, "is it a whole Parquet file?") from error


def _plain(value: Any) -> Any:
    """Truth values as 0 and 1, whole numbers that fit 64 bits; numbers, lists and text are as they are."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return float(value) if abs(value) < 1e300 else float("inf")
    if value is None or isinstance(value, int | float | list):
        return value
    return float(value) if isinstance(value, Decimal) else str(value)


def _not_utf8(path: Path) -> tuple[int, int]:
    """The first line that is not UTF-8, and the byte in it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, line[error.start]
    return 0, 0
