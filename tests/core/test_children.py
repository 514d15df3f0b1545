"""A child and its own children end with the process that started them, however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import environment, is_running, wait_until

import edgekit
from edgekit.core import children

#: writes its own process id and that of its child, then runs on
FAMILY = ["sh", "-c", "sleep 60 & echo $$ $! > pids; wait"]


def pids(folder: Path) -> list[int]:
    assert wait_until(lambda: (folder / "pids").exists() and (folder / "pids").read_text().endswith("\n"))
    return [int(word) for word in (folder / "pids").read_text().split()]


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_with_their_parent(tmp_path: Path, sign: signal.Signals) -> None:
    code = f"from edgekit.core import children, signals; signals.install(); children.run({FAMILY})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    family = pids(tmp_path)
    assert all(map(is_running, family))
    process.send_signal(sign)
    process.wait(10)
    assert wait_until(lambda: not any(map(is_running, family)), 5)


def test_a_timeout_ends_them_and_does_not_wait_for_what_they_hold(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        children.run(FAMILY, cwd=tmp_path, timeout=0.5)
    assert time.monotonic() < started + 5
    assert wait_until(lambda: not any(map(is_running, pids(tmp_path))), 5)


def test_what_a_command_leaves_running_ends(tmp_path: Path) -> None:
    children.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $$ $! > pids"], cwd=tmp_path)
    assert wait_until(lambda: not any(map(is_running, pids(tmp_path))), 5)


def test_it_is_as_subprocess_run() -> None:
    done = children.run(["sh", "-c", 'read line; echo "$1$line"; echo b >&2; exit 3', "sh", "a  '$x"], text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "a  '$x\n", "b\n")
    assert children.run(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        children.run(["no-such-program"])
    with pytest.raises(subprocess.CalledProcessError):
        children.run(["false"], check=True)


def test_a_runner_ends_with_its_parent(tmp_path: Path) -> None:
    """On a device, too, where no pipe is watched: the kernel does it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux only")
    runner = Path(edgekit.__file__).parent / "ondevice" / "runner.py"
    (tmp_path / "job.json").write_text('{"runtime_file": "runtime.py", "runtime_class": "Slow"}')
    (tmp_path / "runtime.py").write_text(
        "import os, time\nopen('part', 'w').write(f'{os.getpid()}\\n'); os.rename('part', 'pids'); time.sleep(60)"
    )
    code = f"import subprocess; subprocess.run({[sys.executable, str(runner), 'job.json', 'result.json']})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    family = pids(tmp_path)
    process.kill()
    process.wait(10)
    assert wait_until(lambda: not any(map(is_running, family)), 5)


def test_no_other_module_starts_a_program() -> None:
    """But two that hold its input open, adb's own server, which outlives edgekit, and the helper itself."""
    package = Path(edgekit.__file__).parent
    found = {
        str(path.relative_to(package)): len(re.findall(r"subprocess\.(?:run|Popen|call|check_\w+)\(", path.read_text()))
        for path in package.rglob("*.py")
        if "ondevice" not in path.parts
    }
    assert {name: count for name, count in found.items() if count} == {
        "core/children.py": 1,
        "devices/shared/adb.py": 2,
        "devices/shared/emulator.py": 1,
        "devices/shared/ssh.py": 1,
    }
