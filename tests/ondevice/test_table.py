"""Rows on a device: the same cells as on the host, every fault named."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.ondevice import table
from edgekit.sets.rows import rows

COLUMNS = [{"name": "area"}, {"name": "rooms", "missing": 2.5}, {"name": "town", "categories": ["", "Aix", "7"]}]


def test_a_row() -> None:
    assert table.encode({"area": 3, "rooms": None, "town": None, "more": "x"}, COLUMNS) == [3, 2.5, 1, 0, 0]
    assert table.encode({"area": "TRUE", "rooms": 1, "town": 7}, COLUMNS) == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({}, "'area' is missing"),
        ({"area": float("nan")}, "'area' is nan"),
        ({"area": float("inf")}, "'area' is inf"),
        ({"area": "two"}, "'area' is 'two', not a number"),
        ({"area": [1]}, "'area' is [1]"),
        ({"area": 1, "town": "Rome"}, "'town' is 'Rome', and the model knows '', 'Aix', '7'"),
    ],
)
def test_a_cell_that_the_model_does_not_take(cells: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as error:
        table.encode(cells, COLUMNS)
    assert said in str(error.value)
    with pytest.raises(ValueError, match="'town' is missing, and the model knows 'a'"):
        table.encode({}, [{"name": "town", "categories": ["a"]}])


cell = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.floats().map(str) | st.integers().map(str)
)


@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=5), st.sampled_from([".csv", ".tsv"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_files_as_on_the_host(tmp_path: Path, lines: list[tuple[str, str]], suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([("a", "b"), *lines])
    host = [dict(row.cells) for row in rows(path)]
    assert repr(table.read(str(path))) == repr(host)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"a": True, "b": None, "c": "x"}) + "\n\n" + json.dumps({"a": 1.5}))
    assert table.read(str(path)) == [{"a": 1, "b": None, "c": "x"}, {"a": 1.5}] == [dict(r.cells) for r in rows(path)]
    path.write_text("[1]")
    with pytest.raises(ValueError, match="not a JSON object"):
        table.read(str(path))


@pytest.mark.parametrize("text", ["a,b\n1\n", 'a,b\n"x"y,1\n', "a,a\n1,2\n"])
def test_broken_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=r"row 1 has 1 cells, the header 2|expected after|column 'a' comes twice"):
        table.read(str(tmp_path / "t.csv"))


def test_the_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("area,rooms\n1,2\n,3\n")
    with pytest.raises(ValueError, match="row 2: 'area' is missing"):
        table.samples(str(tmp_path / "t.csv"), COLUMNS[:2])
    assert table.samples(str(tmp_path / "t.csv"), COLUMNS[1:2]) == [[2], [3]]


def test_a_column_that_no_row_has_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("area,room\n1,2\n")
    with pytest.raises(ValueError, match="it has no column 'rooms', which the model takes"):
        table.samples(str(tmp_path / "t.csv"), COLUMNS[:2])
    (tmp_path / "t.jsonl").write_text('{"area": 1}\n{"area": 1, "rooms": 4}\n')
    assert table.samples(str(tmp_path / "t.jsonl"), COLUMNS[:2]) == [[1, 2.5], [1, 4]]


def test_files_that_no_model_takes(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"area": 1%s}\n' % ("0" * 400))
    with pytest.raises(ValueError, match="row 1: int too large"):
        table.samples(str(tmp_path / "t.jsonl"), COLUMNS[:1])
    (tmp_path / "t.csv").write_text("area,rooms\n")
    with pytest.raises(ValueError, match="it has no rows"):
        table.samples(str(tmp_path / "t.csv"), COLUMNS[:1])


def test_it_needs_the_standard_library_only() -> None:
    code = "import sys; import table; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=Path(table.__file__).parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
