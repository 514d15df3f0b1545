"""A command ends alike by SIGINT, SIGTERM and SIGHUP, and its temporary folders with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import Ended, environment, hear_hangups, wait_until

#: the command line with a command that does what the test says, in a temporary folder
COMMAND = """
import ctypes, hashlib, os, sys, time
from edgekit import cli
from edgekit.core import signals, temporary
def work(*words, **settings):
    with temporary.temporary_folder() as folder:
        (folder / "samples.npy").write_text("private")
        {work}
cli.group.main = work
code = cli.main(["bench", "--json"])
{after}
sys.exit(code)
"""
READY = "open('ready', 'w').close()"
SLEEP = f"{READY}; time.sleep(60)"


def started(
    folder: Path, work: str = SLEEP, after: str = "", through: tuple[str, ...] = (), outputs: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    (folder / "command.py").write_text(COMMAND.format(work=work, after=after))
    pipes = {"stdout": outputs, "stderr": outputs}
    process = subprocess.Popen(
        [*through, sys.executable, "-m", "command"],
        cwd=folder,
        env=environment(TMPDIR=str(folder / "tmp")),
        text=True,
        preexec_fn=hear_hangups,
        **pipes,  # type: ignore[call-overload]
    )
    assert wait_until((folder / "ready").exists), process.kill()
    assert len(list((folder / "tmp").iterdir())) == 1
    return process


def ended(process: subprocess.Popen[str], seconds: float = 10) -> Ended:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


@pytest.mark.parametrize("ignored", ["", "INT", "INT QUIT TERM"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_each_signal_interrupts(tmp_path: Path, name: str, code: int, ignored: str) -> None:
    """Also in a process that was started with signals ignored, as a shell's background job is."""
    through = ("sh", "-c", f"trap '' {ignored}; exec \"$@\"", "sh") if ignored else ()
    process = started(tmp_path, through=through)
    process.send_signal(signal.Signals[name])
    done = ended(process)
    assert done.code == code
    assert done.line == "edgekit: interrupted. Next: run the same command again: it keeps finished steps"
    assert done.json["error"]["code"] == code
    assert not any((tmp_path / "tmp").iterdir())


def test_under_nohup_a_closed_terminal_does_not_end_it(tmp_path: Path) -> None:
    process = started(tmp_path, through=("sh", "-c", "trap '' HUP; exec \"$@\"", "sh"))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert ended(process).code == 143


def test_inside_exec(tmp_path: Path) -> None:
    """As in the making of a dataclass, while a module is imported: CPython would end itself by SIGINT."""
    process = started(tmp_path, f'exec("{SLEEP}")')
    process.send_signal(signal.SIGTERM)
    assert ended(process).code == 143


def test_a_terminal_that_is_gone(tmp_path: Path) -> None:
    terminal, its_end = os.openpty()
    process = started(tmp_path, outputs=its_end)
    os.close(its_end)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(10) == 129
    assert not any((tmp_path / "tmp").iterdir())


def test_one_signal_that_comes_twice(tmp_path: Path) -> None:
    """As from `timeout`: to the process, then to its group. The second does not cut the cleaning-up short."""
    process = started(tmp_path, f"try: {SLEEP}\n        finally: time.sleep(0.3); open('cleaned', 'w').close()")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert done.code == 143 and done.line
    assert (tmp_path / "cleaned").exists()
    assert not any((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("native", [False, True])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, native: bool) -> None:
    """Even while it cleans up, or if native code runs, in which Python handles no signal."""
    busy = "hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)"
    slow = f"try: {SLEEP}\n        finally: time.sleep(60)"
    work = f"signals.GRACE_SECONDS = 60; {READY}; {busy}" if native else slow
    process = started(tmp_path, work)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.3)
    process.send_signal(signal.SIGTERM)
    assert ended(process, 5).code == 143
    assert not any((tmp_path / "tmp").iterdir())


def test_native_code_is_ended_after_a_while(tmp_path: Path) -> None:
    work = f"signals.GRACE_SECONDS = 0.3; {READY}; hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)"
    process = started(tmp_path, work)
    process.send_signal(signal.SIGINT)
    assert ended(process, 5).code == 130
    assert not any((tmp_path / "tmp").iterdir())


def test_a_handler_that_is_slow_to_clean_up_is_not_ended(tmp_path: Path) -> None:
    work = f"signals.GRACE_SECONDS = 0.2\n        try: {SLEEP}\n        finally: time.sleep(0.7); open('cleaned', 'w')"
    process = started(tmp_path, work)
    process.send_signal(signal.SIGTERM)
    assert ended(process).code == 143
    assert (tmp_path / "cleaned").exists()


def test_an_interrupt_that_a_finalizer_loses_comes_again(tmp_path: Path) -> None:
    lost = f"type('Lost', (), {{'__del__': lambda self: ({READY}, time.sleep(1))}})()"
    process = started(tmp_path, f"{lost}; time.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert ended(process, 4).code == 143


def test_a_library_that_turns_the_interrupt_into_its_own_error(tmp_path: Path) -> None:
    process = started(
        tmp_path, f"try: {SLEEP}\n        except BaseException as e: raise RuntimeError('conversion failed') from e"
    )
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert done.code == 143 and "interrupted" in done.line


def test_a_signal_after_the_end_changes_nothing(tmp_path: Path) -> None:
    after = "signals.finish(); print('done', flush=True); time.sleep(1)"
    process = started(tmp_path, f"{READY}; time.sleep(0.2)", after)
    assert process.stdout and process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert (done.code, done.err) == (0, "")


def test_a_forked_child_has_the_default_handlers(tmp_path: Path) -> None:
    """A worker that its parent ends by SIGTERM does not interrupt the parent."""
    fork = "pid = os.fork(); pid or time.sleep(60); os.kill(pid, 15); status = os.waitpid(pid, 0)[1]"
    process = started(
        tmp_path, f"{READY}; {fork}; signals.GRACE_SECONDS = 0.1; time.sleep(0.5); return os.WTERMSIG(status)"
    )
    assert ended(process).code == signal.SIGTERM


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    """At any moment of the imports: by the default handler before there is one, and without a traceback after."""
    for delay in (0.02, 0.05, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-m", "edgekit", "--help"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        done = ended(process)
        assert done.code in (-signal.SIGTERM, 143, 0) and "Traceback" not in done.err


def test_interrupted_while_its_handlers_are_installed(tmp_path: Path) -> None:
    """The first moment that has a handler: it waits for the thread that watches."""
    (tmp_path / "early.py").write_text(
        "import os, signal, sys, threading\n"
        "begin = threading.Thread.start\n"
        "def start(thread):\n"
        "    threading.Thread.start = begin\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    begin(thread)\n"
        "threading.Thread.start = start\n"
        "from edgekit.__main__ import main\n"
        "sys.argv = ['edgekit', '--version']\n"
        "main()\n"
    )
    words = [sys.executable, "-m", "early"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 143 and not done.stderr


def test_this_process_is_left_alone() -> None:
    """Importing edgekit installs nothing: it is also a library."""
    code = "import edgekit.cli, signal; print(signal.getsignal(15) == signal.SIG_DFL)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"
