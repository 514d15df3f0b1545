"""Rows of a table into a model's input: the one implementation, for the host and for devices.

Python 3.8 and its standard library. `columns` are those of the model's input signature as plain values, in the order
of the model (edgekit/core/signature.py documents the keys): a number is one value, a category one value for each that
is known: 1 for its own, 0 for the others.
"""

import collections
import csv
import json
import math

# How a missing cell is written.
MISSING = ("", "NA", "N/A", "null", "NULL")
BOOLEANS = {"true": 1, "false": 0}


def samples(path, columns):
    """The model's values of each row of a file. Raises ValueError, naming row and column, OSError."""
    rows = read(path)
    if not rows:
        raise ValueError("it has no rows")
    missing = absent(rows, columns)
    if missing:
        raise ValueError("it has no column %r, which the model takes" % missing[0])
    values = []
    for number, row in enumerate(rows, 1):
        try:
            values.append(encode(row, columns))
        except (ValueError, OverflowError) as error:
            raise ValueError("row %d: %s" % (number, error)) from error
    return values


def absent(rows, columns):
    """The model's columns that no row has. A row of JSON may leave one out; a cell may be missing, a column may not."""
    return [column["name"] for column in columns if not any(column["name"] in row for row in rows)]


def read(path):
    """The rows of a .csv, .tsv or .jsonl file as dictionaries: column → cell. Raises ValueError, OSError."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        if path.lower().endswith(".jsonl"):
            rows = [json.loads(line) for line in file if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not a JSON object")
            return [{name: int(v) if isinstance(v, bool) else v for name, v in row.items()} for row in rows]
        return read_csv(file, "\t" if path.lower().endswith(".tsv") else ",")


def read_csv(file, delimiter=","):
    """The rows of an open file with a header. Raises ValueError."""
    try:
        lines = [line for line in csv.reader(file, delimiter=delimiter, strict=True) if line]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    header = [name.strip() for name in lines[0]] if lines else []
    twice = [name for name, count in collections.Counter(header).items() if count > 1 and name]
    if twice:
        raise ValueError("the column %r comes twice" % twice[0])
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise ValueError("row %d has %d cells, the header %d" % (number, len(line), len(header)))
    return [dict(zip(header, [parse_cell(cell.strip()) for cell in line])) for line in lines[1:]]


def parse_cell(cell):
    """An int that fits 64 bits, else a float, else the text; None for a missing cell."""
    if cell in MISSING:
        return None
    if not cell.isascii() or "_" in cell:
        return cell
    try:
        integer = int(cell)
        return integer if abs(integer) < 2**63 else float(integer)
    except (ValueError, OverflowError):
        pass
    try:
        return float(cell)
    except ValueError:
        return cell


def is_missing(value):
    """Is the cell empty, or NaN?"""
    return value is None or (isinstance(value, float) and math.isnan(value))


def encode(cells, columns):
    """The model's values of one row. Raises ValueError, naming the column, for a cell that the model does not take."""
    values = []
    for column in columns:
        value = cells.get(column["name"])
        if column.get("categories"):
            values += one_hot(column["name"], value, column["categories"])
        else:
            values.append(number(column["name"], value, column.get("missing")))
    return values


def one_hot(name, value, categories):
    """1 for the cell's category, 0 for the others; the category "" is a missing cell. Raises ValueError."""
    text = "" if is_missing(value) else str(value)
    if text not in categories:
        known = ", ".join(repr(category) for category in categories[:8]) + (", ..." if len(categories) > 8 else "")
        raise ValueError("%r is %s, and the model knows %s" % (name, repr(text) if text else "missing", known))
    return [int(text == category) for category in categories]


def number(name, value, missing):
    """The cell as a finite number; `missing`: what a missing one becomes, None: it is an error. Raises ValueError."""
    if is_missing(value) and missing is not None:
        return missing
    if value is None:
        raise ValueError("%r is missing" % name)
    if isinstance(value, str):
        value = BOOLEANS.get(value.lower(), value)
    if not isinstance(value, (int, float)):
        raise ValueError("%r is %r, not a number" % (name, value))
    if not math.isfinite(value):
        raise ValueError("%r is %s" % (name, value))
    return value
