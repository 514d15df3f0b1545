"""Results files: parsing, and compatibility with older and newer files of the same schema.

A file names its schema. Within a schema, edgekit only adds fields: a field that an older file does not have has a
default, and fields of a newer file that are not known here are ignored. Another schema is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.core import json, relative_paths
from edgekit.core.artifact import SCHEMA
from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement

#: what to do about a file that is no results file
NAME = "name a run folder or results.json"

#: what the first files of the schema did not have to have
ABSENT = dict.fromkeys(("metric", "latency_ms", "verdict", "parity"))


def read(path: Path) -> list[Measurement]:
    """The measurements in a results file. Raises InputError if it is not one, or of another schema version."""
    return parse(json.read(path, NAME), path)


def parse(document: dict[str, Any], where: Path | str) -> list[Measurement]:
    """The rows of a results file that was read from `where`. Raises InputError with the place and the problem."""
    if "measurements" not in document or "schema" not in document:
        raise InputError(f"{where} is not an edgekit results file", "it has no schema and measurements", NAME)
    if document["schema"] != SCHEMA:
        what = f"{where} has the schema {str(document['schema'])[:60]!r}"
        raise InputError(what, f"this edgekit reads {SCHEMA}", "measure again, or use the edgekit that wrote it")
    rows = document["measurements"]
    if not isinstance(rows, list):
        raise InputError(f"{where} is not an edgekit results file", "measurements is not a list", NAME)
    return [_row(entry, f"measurements[{index}]", where) for index, entry in enumerate(rows)]


def _row(entry: Any, key: str, where: Path | str) -> Measurement:
    values = {**ABSENT, **entry} if isinstance(entry, dict) else entry
    measurement = json.record(Measurement, values, where, NAME, key=key, newer=True)
    for name in ("artifact", "target", "runtime", "key"):  # they are parts of file names
        if (part := getattr(measurement, name)) and (why := relative_paths.problem(part)):
            raise InputError(f"{where}: {key}.{name}: {why}", next=NAME)
    return measurement
