"""Records out of JSON objects."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.json import from_json, tuples


@dataclass(frozen=True)
class Record:
    name: str
    values: tuple[float, ...] = ()
    count: int | None = None


RECORDS = st.builds(Record, st.text(), st.lists(st.floats(allow_nan=False)).map(tuple), st.none() | st.integers())


@given(RECORDS)
def test_what_was_written_comes_back(record: Record) -> None:
    assert from_json(Record, json.loads(json.dumps(dataclasses.asdict(record)))) == record


def test_nothing_stays_nothing() -> None:
    assert from_json(Record, None) is None


def test_a_field_that_is_not_known_is_an_error() -> None:
    with pytest.raises(TypeError):
        from_json(Record, {"name": "a", "other": 1})


def test_only_lists_become_tuples() -> None:
    assert tuples([1, 2]) == (1, 2)
    assert tuples("ab") == "ab" and tuples({"a": [1]}) == {"a": [1]} and tuples(None) is None
