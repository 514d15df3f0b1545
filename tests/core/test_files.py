"""Files that are replaced whole, and hashes that follow what is in them."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core.errors import InputError, NoSpace
from edgekit.core.files import replacing, sha256, sync, write_atomically

TICKS = itertools.count()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.binary(max_size=64), second=st.binary(max_size=64))
def test_the_hash_is_of_what_is_there_now(tmp_path: Path, first: bytes, second: bytes) -> None:
    path = tmp_path / "file"
    for data in (first, second):
        path.write_bytes(data)
        nanoseconds = next(TICKS)  # as if later by so much: the clock's steps may be longer than a write takes
        os.utime(path, ns=(nanoseconds, nanoseconds))
        assert sha256(path) == hashlib.sha256(data).hexdigest()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        sha256(tmp_path / "nothing")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="\r", exclude_categories=("Cs",))))
def test_what_is_written_is_read(tmp_path: Path, text: str) -> None:
    write_atomically(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a.txt", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace):
        write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_atomically(tmp_path / "nowhere" / "a.txt", "text")


def test_files_and_folders_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    (tmp_path / "a").write_text("x")
    sync(tmp_path / "a")
    sync(tmp_path)
    assert synced == [tmp_path / "a", tmp_path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_a_write_that_ends_early_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with pytest.raises(error), replacing(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_and_the_mode_stay(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(0o640)
    (tmp_path / "link").symlink_to("a.txt")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
