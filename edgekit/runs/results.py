"""Results files: parsing, and compatibility with older and newer files of the same schema.

A file names its schema. Within a schema, edgekit only adds fields: a field that an older file does not have gets its
default from `ADDED`, and fields of a newer file that are not known here are ignored. Another schema is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from edgekit.core import relative_paths
from edgekit.core.artifact import SCHEMA
from edgekit.core.config import fits
from edgekit.core.json import from_json
from edgekit.core.measurement import Latency, Measurement, Metric, Parity, Verdict

#: record → fields that the first files of this schema did not have, with their defaults
ADDED: Mapping[str, Mapping[str, Any]] = {
    "metric": {"drop_p": None},
}
NESTED: Mapping[str, type] = {"metric": Metric, "latency_ms": Latency, "verdict": Verdict, "parity": Parity}


class OtherSchema(ValueError):
    """The file has another schema than this edgekit reads."""


def parse(document: Any) -> list[Measurement]:
    """The rows of a results file. Raises OtherSchema, or ValueError with the place and the problem."""
    if not isinstance(document, dict) or "measurements" not in document or "schema" not in document:
        raise ValueError("it has no schema and measurements")
    if document["schema"] != SCHEMA:
        raise OtherSchema(str(document["schema"]))
    if not isinstance(document["measurements"], list):
        raise ValueError("measurements is not a list")
    return [_row(entry, f"measurements[{i}]") for i, entry in enumerate(document["measurements"])]


def _row(entry: Any, where: str) -> Measurement:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not an object")
    for name in ("artifact", "target", "runtime", "key"):  # they are parts of file names
        if entry.get(name) and (why := relative_paths.problem(entry[name])):
            raise ValueError(f"{where}.{name}: {why}")
    nested = {name: _nested(name, kind, entry.get(name), f"{where}.{name}") for name, kind in NESTED.items()}
    measurement: Measurement = _record(Measurement, {**entry, **dict.fromkeys(NESTED)}, where)
    return dataclasses.replace(measurement, **nested)


def _nested(name: str, kind: type, value: Any, where: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    return _record(kind, {**ADDED.get(name, {}), **value}, where)


def _record(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """The record from its known fields; others were added by a later edgekit."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    known = {name: value for name, value in values.items() if name in fields}
    missing = [name for name, f in fields.items() if name not in known and f.default is dataclasses.MISSING]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    for name, value in known.items():
        if name not in NESTED and not fits(value, hints[name]):
            raise ValueError(f"{where}.{name} cannot be {value!r:.60}")
    return from_json(kind, known)
