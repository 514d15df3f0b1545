"""Bytes that a device sent as arrays: read within limits, or refused with a sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.devices.shared.arrays import archive_arrays, array_bytes


@given(st.binary(max_size=300))
def test_bytes_after_numpy_s_magic_are_an_array_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + data)
    with pytest.raises(ValueError, match=r"."):
        array_bytes(path)


def test_an_archive_is_read_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, y=np.arange(6.0).reshape(2, 3))
    assert np.array_equal(archive_arrays(path, 1000)["y"], np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match="holds more than"):
        archive_arrays(path, 100)


def test_an_archive_that_expands_or_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("y.npy", bytes(50_000_000))
    with pytest.raises(ValueError, match="holds more than"):
        archive_arrays(path, 1_000_000)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("y.npy", head.getvalue())
    with pytest.raises(ValueError, match="smaller than its header"):
        archive_arrays(path, 1_000_000)
    path.write_bytes(b"PK\3\4 no archive")
    with pytest.raises(ValueError, match="zip"):
        archive_arrays(path, 1_000_000)
