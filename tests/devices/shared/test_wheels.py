"""What was downloaded for a device once is the same the next time, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import DeviceError
from edgekit.devices.shared import wheels

NAME = "numpy-2.0.0-cp311-cp311-manylinux_2_17_aarch64.whl"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / NAME).write_bytes(b"wheel")
    return tmp_path / "wheels"


def test_the_same_wheel_is_accepted_again(folder: Path) -> None:
    wheels.verify(folder)
    wheels.verify(folder)
    assert list(json.loads(wheels.record().read_text())) == [NAME]


def test_another_wheel_of_the_same_name_is_refused(folder: Path) -> None:
    wheels.verify(folder)
    before = wheels.record().read_bytes()
    (folder / NAME).write_bytes(b"another")
    with pytest.raises(DeviceError, match="is not the file that was downloaded before"):
        wheels.verify(folder)
    assert wheels.record().read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_record_is_not_replaced(folder: Path, text: bytes) -> None:
    wheels.record().parent.mkdir(parents=True)
    wheels.record().write_bytes(text)
    with pytest.raises(DeviceError, match="damaged"):
        wheels.verify(folder)
    assert wheels.record().read_bytes() == text
