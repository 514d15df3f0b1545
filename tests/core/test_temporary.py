"""Temporary folders are private, and go: after use, or by a later command."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment, wait_until

import edgekit
from edgekit.core import temporary
from edgekit.core.temporary import TemporaryFolder, temporary_folder

HOLD = """
import time
from edgekit.core.temporary import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "samples.npy").write_text("private")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def holder(place: Path) -> subprocess.Popen[bytes]:
    """A process that holds a temporary folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], env=environment(TMPDIR=str(place)), stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    return process


def test_it_is_private_and_goes(place: Path) -> None:
    old = os.umask(0)
    try:
        with temporary_folder() as folder:
            (root,) = place.iterdir()
            modes = [path.stat().st_mode & 0o777 for path in (root, root / temporary.LOCK, folder)]
            assert modes == [0o700, 0o600, 0o700]
            assert not any(folder.iterdir())
    finally:
        os.umask(old)
    assert not any(place.iterdir())
    held = TemporaryFolder()
    assert held.path.exists()
    del held
    gc.collect()
    assert not any(place.iterdir())


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_later_process_removes_that_of_a_dead_one(place: Path, sign: signal.Signals) -> None:
    process = holder(place)
    (stale,) = place.iterdir()
    with temporary_folder():
        assert (stale / "files" / "samples.npy").exists(), "that of a live process was removed"
    process.send_signal(sign)
    process.wait(10)
    assert stale.exists()
    temporary._places.discard(place)
    with temporary_folder() as folder:
        assert [folder.parent] == list(place.iterdir())


def test_what_is_still_written_to_is_left_to_a_later_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process adds a file while the folder is deleted: without its lock file it would stay for ever."""
    delete = temporary.shutil.rmtree

    def deleted_meanwhile_written_to(path: Path, ignore_errors: bool = False) -> None:
        delete(path, ignore_errors=ignore_errors)
        if path.name == "files":
            path.mkdir()
            (path / "late.npy").touch()

    with temporary_folder() as folder:
        root = folder.parent
        with monkeypatch.context() as patch:
            patch.setattr(temporary.shutil, "rmtree", deleted_meanwhile_written_to)
            temporary.remove_all()
        assert (root / temporary.LOCK).exists()
    assert not root.exists()


def test_one_that_was_not_noted_yet(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt came between making the folder, or its lock file, and noting it."""
    with temporary_folder():
        pass
    for name in ("bare", "locked"):
        (place / f"{temporary._OWN}{name}").mkdir()
    (place / f"{temporary._OWN}locked" / temporary.LOCK).touch()
    (place / "edgekit-01234567-another").mkdir()
    temporary.remove_all()
    assert [path.name for path in place.iterdir()] == ["edgekit-01234567-another"]


def test_nothing_else_is_removed(place: Path) -> None:
    """Neither a folder that only has such a name, nor what a link leads to, nor another user's."""
    outside = place / "outside"
    for folder in (outside, place / "edgekit-examples", place / "other-abcdefgh"):
        folder.mkdir()
        (folder / "mine.txt").touch()
    (outside / temporary.LOCK).touch()
    (place / "edgekit-link").symlink_to(outside)
    (place / "edgekit-inside").mkdir()
    (place / "edgekit-inside" / temporary.LOCK).symlink_to(outside / "mine.txt")
    (place / "edgekit-file").touch()
    if os.geteuid() == 0:
        (place / "edgekit-theirs").mkdir()
        (place / "edgekit-theirs" / temporary.LOCK).touch()
        os.chown(place / "edgekit-theirs", 1234, 1234)
    before = sorted(place.rglob("*"))
    temporary.sweep(place)
    assert sorted(place.rglob("*")) == before


def test_a_stale_folder_with_a_link_in_it(place: Path) -> None:
    (place / "kept").mkdir()
    (place / "kept" / "mine.txt").touch()
    stale = place / "edgekit-abcdefgh"
    stale.mkdir()
    (stale / temporary.LOCK).touch()
    (stale / "files").symlink_to(place / "kept")
    temporary.sweep(place)
    assert not stale.exists() and (place / "kept" / "mine.txt").exists()


def test_a_forked_child_does_not_remove_its_parents(place: Path) -> None:
    with temporary_folder() as folder:
        if (pid := os.fork()) == 0:
            temporary._remove(folder.parent, os.dup(0), os.getppid())
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert folder.exists()


def test_two_at_once(place: Path) -> None:
    """Processes that sweep while others make their folders."""
    code = f"""
from pathlib import Path
from edgekit.core import temporary
for _ in range(200):
    temporary.sweep(Path({str(place)!r}))
    with temporary.temporary_folder() as folder:
        (folder / "a").touch()
"""
    env = environment(TMPDIR=str(place))
    processes = [subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == 0
    assert wait_until(lambda: not any(place.iterdir()), 1)


def test_no_other_module_makes_temporary_files() -> None:
    package = Path(edgekit.__file__).parent
    calls = re.compile(r"tempfile\.(?:\w*Temp\w*|mk\w+)\([^)\n]*\)?")
    found = [
        (str(path.relative_to(package)), call)
        for path in sorted(package.rglob("*.py"))
        if "ondevice" not in path.parts
        for call in calls.findall(path.read_text())
    ]
    assert found == [
        ("core/mute.py", "tempfile.TemporaryFile()"),
        ("core/temporary.py", "tempfile.mkdtemp(prefix=_OWN, dir=place)"),
        ("measure/execute.py", "tempfile.mkdtemp(dir=self._folder)"),
    ]
