"""Errors of reading arrays: whatever numpy raises names the file, and what is an answer already stays as it is."""

from __future__ import annotations

import tokenize
from pathlib import Path

import pytest

from edgekit.core.arrays import array_errors
from edgekit.core.errors import InputError, Missing


@pytest.mark.parametrize(
    "error",
    [ValueError("bad\nheader"), tokenize.TokenError("EOF"), MemoryError(), EOFError(), FileNotFoundError(2, "no")],
)
def test_any_error_names_the_file(error: Exception) -> None:
    with pytest.raises(InputError) as caught, array_errors(Path("x.npy"), "write it again"):
        raise error
    assert "x.npy" in caught.value.what and caught.value.why and "\n" not in caught.value.why and caught.value.next


def test_an_answer_stays_as_it_is() -> None:
    with pytest.raises(Missing), array_errors(Path("x.npy"), "write it again"):
        raise Missing("x")
