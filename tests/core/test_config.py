"""TOML tables → records: every problem at once, no silent coercion, never an exception for bad data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.config import build, convert, parse, read_toml
from edgekit.core.errors import InputError

scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.none(), st.dates(), st.times(), st.datetimes()
)
#: whatever a TOML file (and a bit more) can hold
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@dataclass(frozen=True)
class Sample:
    name: str
    count: int = 1
    rate: float = 0.5
    on: bool = False
    mode: Literal["slow", "fast"] = "slow"
    words: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    table: Mapping[str, str] = field(default_factory=dict)
    maybe: int | None = None

    def problems(self) -> Iterator[str]:
        if self.count < 1:
            yield "count must be at least 1"


def whats(table: Mapping[str, Any]) -> list[str]:
    return [str(problem) for problem in build(Sample, table, "here")[1]]


def test_a_whole_table() -> None:
    table = {
        "name": "x",
        "count": 3,
        "rate": 2,
        "on": True,
        "mode": "fast",
        "words": ["a"],
        "numbers": [1, 2],
        "table": {"k": "v"},
        "maybe": 4,
    }
    made, problems = build(Sample, table, "")
    assert not problems
    assert made == Sample("x", 3, 2.0, True, "fast", ("a",), (1, 2), {"k": "v"}, 4)
    assert isinstance(made.rate, float)  # type: ignore[union-attr]


def test_every_problem_at_once() -> None:
    found = whats({"nam": "x", "count": "3", "rate": "fast", "on": 1, "mode": "medium", "words": "abc", "table": 3})
    text = "\n".join(found)
    assert len(found) == 8
    for wanted in (
        "unknown key 'nam' (did you mean name?)",
        "'name' is missing",
        "here.count: must be an integer, not string '3'",
        "here.rate: must be a number, not string 'fast'",
        "here.on: must be true or false, not integer 1",
        "here.mode: must be one of 'slow', 'fast', not string 'medium'",
        "here.words: must be a list of a string, not string 'abc'",
        "here.table: must be a table, not integer 3",
    ):
        assert wanted in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", True),
        ("count", 1.0),
        ("rate", True),
        ("name", 3),
        ("words", [1]),
        ("words", {"a": 1}),
        ("numbers", ["1"]),
        ("numbers", [True]),
        ("mode", 1),
        ("mode", ["slow"]),
        ("maybe", "x"),
        ("table", {"k": 1}),
    ],
)
def test_nothing_is_coerced(name: str, value: Any) -> None:
    made, problems = build(Sample, {"name": "x", name: value} if name != "name" else {name: value}, "here")
    assert made is None
    assert len(problems) == 1 and problems[0].where.startswith(f"here.{name}")


def test_a_record_that_refuses_itself() -> None:
    assert whats({"name": "x", "count": 0}) == ["here: count must be at least 1"]


@given(
    st.dictionaries(st.sampled_from([*Sample.__dataclass_fields__, "other"]) | st.text(max_size=6), values, max_size=6)
)
def test_any_table_gives_a_record_or_problems(table: dict[str, Any]) -> None:
    made, problems = build(Sample, table, "here")
    assert (made is None) == bool(problems)
    for problem in problems:
        assert problem.what and "\n" not in problem.where
    if made is not None:
        for name, value in table.items():
            kept = getattr(made, name)
            assert kept == (tuple(value) if isinstance(value, list) else value) or value != value


@given(
    values, st.sampled_from([int, float, str, bool, Any, tuple[int, ...], int | None, Mapping[str, int], Literal["a"]])
)
def test_convert_answers_or_says_why(value: Any, hint: Any) -> None:
    try:
        convert(value, hint)
    except TypeError as error:
        assert "must be" in str(error)


@pytest.mark.parametrize(
    ("text", "hint", "expected"),
    [
        ("3", int, 3),
        ("0.5", float, 0.5),
        ("2", float, 2.0),
        ("true", bool, True),
        ("cnn", str, "cnn"),
        ("3", str, "3"),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ('["a"]', tuple[str, ...], ("a",)),
        ("fast", Literal["slow", "fast"], "fast"),
        ('"fast"', Literal["slow", "fast"], "fast"),
        ("1e-3", float, 1e-3),
    ],
)
def test_words_of_the_command_line(text: str, hint: Any, expected: Any) -> None:
    assert parse(text, hint) == expected


@given(st.text(max_size=20), st.sampled_from([int, float, bool, str, tuple[str, ...], Literal["a"], Any]))
def test_any_word_is_parsed_or_refused(text: str, hint: Any) -> None:
    try:
        parse(text, hint)
    except TypeError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a = \xff", "not UTF-8 text (byte 4)"),
        (b"a = 1\na = 2\n", "not TOML"),
        (b"a == 1", "line 1"),
        (b"\x00", "TOML"),
        (b"a = nan", "a is nan, not a number"),
        (b"[a]\nb = [0, inf]", "a.b[1] is inf, not finite"),
        (b"a = 99999999999999999999", "a has more than 64 bits"),
        (b"a = " + b"9" * 5000, "4300 digits"),
        (b"a = " + b"[" * 3000, "nested too deeply"),
        (b"a = " + b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b'a = "\\u0000"', "a holds a NUL character"),
    ],
)
def test_what_is_not_toml(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(raw)
    with pytest.raises(InputError) as error:
        read_toml(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(InputError):
            read_toml(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(raw)
    try:
        assert isinstance(read_toml(path), dict)
    except InputError as error:
        assert error.code == 2


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "x.toml") == {"a": 1}


@pytest.mark.parametrize("text", ["nan", "-inf", "9" * 30, "9" * 5000, "[" * 3000, "[[nan]]"])
def test_a_word_that_no_setting_can_be(text: str) -> None:
    with pytest.raises(TypeError):
        parse(text, float)
