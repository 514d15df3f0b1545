"""Bytes that a device sent: read, or refused with a sentence; whole devices are in tests/devices/test_hostile.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.devices.shared.untrusted import json_object, plain, shown


@given(st.text())
def test_what_is_shown_is_one_short_line(text: str) -> None:
    line = shown(text, 50)
    assert len(line) <= 50 and line.isprintable()


@given(st.binary(max_size=200))
def test_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        assert isinstance(json_object(data), dict)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "[" * 200_000, "9" * 10_000])
def test_numbers_and_depths_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_object(f'{{"a": {text}}}'.encode())


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", ".x", "-x", "a\nb", "a\0", "x" * 200, "ü"])
def test_what_is_no_plain_name(name: str) -> None:
    assert not plain(name) and plain("optimized.onnx")
