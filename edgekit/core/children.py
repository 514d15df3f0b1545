"""Child processes that end with this one, however it ends.

A shell starts in the background and reads a pipe that this process holds open, then becomes the command. When the pipe
ends, the shell kills the process group: the command and its own children. Unlike PR_SET_PDEATHSIG this works on every
Unix, reaches the command's children, and does not depend on the thread that started it. Processes that are forked to
run Python use `end_with_parent`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
#: put before a command whose standard input is the pipe and that leads a process group of its own; it reads /dev/null
WATCHED = (
    "sh",
    "-c",
    'exec 3<&0; { read -r _ <&3; kill -9 0; } >/dev/null 2>&1 & exec "$@" </dev/null 3<&-',
    "sh",
)


def run(
    command: Sequence[str], *, timeout: float | None = None, check: bool = False, **settings: Any
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with captured output and no input, in a process group of its own.

    A command that times out or is interrupted is killed with its children, and so is what it leaves running.
    Raises FileNotFoundError, TimeoutExpired, CalledProcessError.
    """
    path = (settings.get("env") or os.environ).get("PATH")
    if shutil.which(command[0], path=path) is None:
        raise FileNotFoundError(2, os.strerror(2), command[0])
    reader, writer = os.pipe()
    try:
        pipes: dict[str, Any] = {"stdin": reader, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen([*WATCHED, *command], process_group=0, **pipes, **settings)
        try:
            out, err = child.communicate(timeout=timeout)
        except BaseException:
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
    finally:
        os.close(reader)
        os.close(writer)
    done = subprocess.CompletedProcess(list(command), child.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def end_with_parent(_: object = None) -> None:
    """Have the kernel kill this process when the thread that started it ends; Linux only (prctl(2))."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
