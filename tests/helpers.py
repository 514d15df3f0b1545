"""What tests share beside fixtures: the command line in a process of its own, and a recipe learnt in a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
MEMBERS = TESTS / "members"

#: threads that wait for each other by spinning make tiny networks crawl on a busy machine
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

#: a measurement plan that takes next to no time, for tests that do not look at the times
QUICK_PLAN = """
[plan]
processes = 1
seconds = 0.02
warmup_seconds = 0.01
min_runs = 5
"""

BARS = """
task = "bars"

[train]
model = "cnn"
epochs = 8
batch = 32
lr = 0.01

[[chain]]
steps = ["train", "to_onnx", "onnx_int8"]
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; fails where there is anything else."""
        document: dict[str, Any] = json.loads(self.out, parse_constant=_no_constant)
        return document

    @property
    def line(self) -> str:
        """The one line of complaint; fails on a traceback, or where there are several."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("edgekit: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def environment(**extra: str) -> dict[str, str]:
    """The environment of an edgekit process that knows the test-only members."""
    path = os.pathsep.join(filter(None, [str(MEMBERS), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **ONE_THREAD, **extra}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgekit", *map(str, words)]


def hear_hangups() -> None:
    """In a new process (`preexec_fn`): SIGHUP ends it, as in a terminal, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(*words: object, cwd: Path, **settings: Any) -> subprocess.Popen[str]:
    """An edgekit process that runs while the test does."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    settings.setdefault("env", environment())
    return subprocess.Popen(command(*words), cwd=cwd, text=True, **{**pipes, **settings})


def run_cli(*words: object, cwd: Path, timeout: float = 240, through: Sequence[str] = (), **settings: Any) -> Ended:
    """Run a command to its end; `through` is a command line that starts it."""
    settings.setdefault("env", environment())
    line = [*through, *command(*words)]
    done = subprocess.run(line, cwd=cwd, text=True, capture_output=True, timeout=timeout, check=False, **settings)
    return Ended(done.returncode, done.stdout, done.stderr)


def trust(folder: Path) -> None:
    """As `edgekit trust --yes` in the folder, in this process."""
    from edgekit.workflows import trust

    trust.trust(trust.look(folder.resolve()))


def but_larger(failures: Sequence[Exception]) -> list[Exception]:
    """Without the failure of a network so small that its int8 file is larger."""
    return [failure for failure in failures if "is larger than the float model" not in str(failure)]


def is_running(pid: int) -> bool:
    """Whether there is such a process; a zombie, which nobody has waited for yet, has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if Path("/proc/self").exists() else ""
        os.kill(pid, 0)
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] != ["Z"]


def wait_until(met: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for a condition; returns whether it was met in time."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
