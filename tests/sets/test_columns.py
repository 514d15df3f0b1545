"""What text of a column is taken for."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.signature import Column
from edgekit.sets import columns
from edgekit.sets.columns import MOST_CATEGORIES, Texts


def texts(*cells: str) -> Texts:
    found = Texts()
    for cell in cells:
        found.add(cell)
    return found


@pytest.mark.parametrize(
    ("cell", "is_date"),
    [
        ("2024-05-31", True),
        ("2024-05-31 00:00:00", True),
        ("2024-05-31T12:00:00+02:00", True),
        ("31.05.2024", True),
        ("5/31/24", True),
        ("2024-05", True),
        ("10-12", False),
        ("192.168.1.1", False),
        ("v1.2", False),
        ("2024-05-31-a", False),
    ],
)
def test_dates(cell: str, is_date: bool) -> None:
    assert texts(cell, cell).problem(2).startswith("dates") == is_date


def test_booleans_and_constants() -> None:
    assert texts("True", "FALSE", "true").are_booleans and not texts("true", "yes").are_booleans
    assert texts("x", "x").constant and texts().constant and not texts("x", "y").constant
    assert not texts("x" * 200).constant, "only its length is known"
    assert texts("b", "a").categories(missing=True) == ("", "a", "b")


@given(st.lists(st.text(max_size=5), min_size=1))
def test_memory_is_bounded(cells: list[str]) -> None:
    found = texts(*cells, *map(str, range(1000)))
    assert len(found.found) <= MOST_CATEGORIES + 1 and found.count == len(cells) + 1000
    assert "more than 50 different values" in found.problem(found.count)


@given(st.lists(st.text(min_size=1), min_size=1))
def test_names_in_an_option(names: list[str]) -> None:
    assert [unquote(part) for part in columns.names(names).split(",")] == names


def test_what_is_encoded() -> None:
    assert columns.is_encoded([Column("a"), Column("b", missing=0.0)]) and columns.is_encoded([Column("a", ("x",))])
    assert not columns.is_encoded([Column("a")])
