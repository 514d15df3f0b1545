"""JSON files and records: what was written comes back; what is damaged is refused with its file and place."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.core.json import MAX_BYTES, parse, read, record


@dataclass(frozen=True)
class Inner:
    low: float
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    values: tuple[float, ...] = ()
    count: int | None = None
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()


INNERS = st.builds(Inner, st.floats(allow_nan=False), st.lists(st.text()).map(tuple))
OUTERS = st.builds(
    Outer,
    st.text(),
    st.lists(st.floats(allow_nan=False)).map(tuple),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | INNERS,
    st.lists(INNERS, max_size=3).map(tuple),
)


@given(OUTERS)
def test_what_was_written_comes_back(outer: Outer) -> None:
    assert record(Outer, json.loads(json.dumps(dataclasses.asdict(outer))), "x.json") == outer


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "'name' is missing"),
        ([], "it is not a JSON object"),
        ({"name": 3}, "name: must be a string, not integer 3"),
        ({"name": "a", "count": True}, "count: must be an integer, not"),
        ({"name": "a", "values": [1, "x"]}, r"values\[1\]: must be a number, not string 'x'"),
        ({"name": "a", "inner": 1}, "inner: must be a table, not integer 1"),
        ({"name": "a", "inner": {"low": "x"}}, "inner.low: must be a number, not string 'x'"),
        ({"name": "a", "inners": [{"low": 1}, {"low": 1, "words": [0]}]}, r"inners\[1\].words\[0\]: must be a string"),
        ({"name": "a", "inner": {"low": 1, "later": 1}}, "inner: unknown key 'later'"),
    ],
)
def test_a_record_says_what_is_wrong_and_where(data: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        record(Outer, data, "x.json")
    assert "x.json" in error.value.what and error.value.next


def test_unknown_keys_of_a_later_version_are_ignored_at_any_depth() -> None:
    data = {"name": "a", "later": 1, "inner": {"low": 1, "later": 1}}
    assert record(Outer, data, "x.json", newer=True) == Outer("a", inner=Inner(1.0))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "it is empty"),
        (b'{"a": 1', "it is not JSON"),
        (b'{"a": "\xe4"}', r"it is not UTF-8 text \(byte 7\)"),
        ('{"a": 1}'.encode("utf-16"), "it is not UTF-8 text"),
        (b"[1]", "it does not hold a JSON object"),
        (b"null", "it does not hold a JSON object"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
        (b'{"a": ' + b"[" * 400 + b"]" * 400 + b"}", "it is nested too deeply"),
        (b'{"a": [0, ' + b"9" * 5000 + b"]}", "4300 digits"),
        (b'{"a": [0, ' + b"9" * 30 + b"]}", r"a\[1\] has more than 64 bits"),
        (b'{"a": {"b": "x\\u0000"}}', "a.b holds a NUL character"),
        (b'{"a": "\\ud800"}', "a holds half a surrogate pair"),
        (b'{"\\ud800": 1}', "it holds half a surrogate pair"),
    ],
)
def test_what_is_no_object_is_refused_with_the_file(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=said) as error:
        read(path)
    assert str(path) in error.value.what and error.value.next
    assert error.value.why.encode("utf-8"), "it cannot be printed"


def test_a_folder_nothing_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for path in (tmp_path, tmp_path / "absent.json", tmp_path / "huge.json"):
        with pytest.raises(InputError, match=str(path)):
            read(path)


def test_a_byte_order_mark_and_infinity_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"db": Infinity}')
    assert read(tmp_path / "x.json") == {"db": math.inf}


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_a_value_or_refused(raw: bytes) -> None:
    try:
        parse(raw)
    except ValueError as error:
        assert str(error)
