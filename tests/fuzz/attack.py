"""One command on one damaged file, in a process forked from one that has imported everything, and how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import resource
import select
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzz import kinds
from fuzz.kinds import Kind
from fuzz.mutations import plain

SECONDS = 20.0
MEMORY = 2 * 1024**3
#: what a command may write to
OWN = ("out", "runs", "copy", "p.html", "p.md", "p.csv", "p.svg", "s.svg", ".cache")
#: torch's own cache, one for each user
CACHES = "torchinductor_"
LOGS = ("log.txt", ".lock")
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")
#: exit codes that a command may end with (edgekit/core/errors.py)
EXPECTED = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Ended:
    """`wrong`: what must not have happened, in a few words; empty if the command ended as it should."""

    kind: str
    command: str
    code: int
    seconds: float
    memory: int
    said: str
    wrong: tuple[str, ...]


def warm() -> None:
    """Import what commands import, before any fork; no thread may be started by it."""
    import importlib
    import pkgutil

    import edgekit.cli
    import edgekit.workflows

    for package in (edgekit.cli, edgekit.workflows):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    import onnx  # noqa: F401
    import torch

    torch.set_num_threads(1)


class Place:
    """A copy of the seeds to work in, with a home and an outside that no command may touch."""

    def __init__(self, seeds: Path, folder: Path) -> None:
        self.seeds, self.work = seeds, folder / "work"
        self.home, self.outside = folder / "home", folder / "outside"
        shutil.copytree(seeds, self.work, symlinks=True)
        (self.work / "canary.py").write_text(kinds._canary(self.work))
        for path in (self.home, self.outside):
            path.mkdir()
        (self.outside / "secret").write_text("secret")
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        (self.work / "link").symlink_to(self.outside)
        self._clean = self._state()

    def _state(self) -> Mapping[str, str]:
        """Every file of the work folder that is not a command's own, and everything outside, by content."""
        found = {}
        for root in (self.work, self.outside):
            for path in sorted(root.rglob("*")):
                name = path.relative_to(root.parent).as_posix()
                own = path.is_relative_to(self.work) and path.relative_to(self.work).parts[0] in OWN
                own = own or path.name in LOGS
                if not own and path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                    found[name] = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
        return found

    def run(self, kind: Kind, data: bytes, command: str) -> Ended:
        target = self.work / kind.file
        valid = target.read_bytes()
        before = target.stat()
        for name in OWN:
            _remove(self.work / name)
        if "copy" in command:
            shutil.copytree(self.work / "run", self.work / "copy")
            (self.work / "copy" / "mine.txt").write_text("mine")
        target.write_bytes(data)
        if kind.file.startswith("run/") and "copy" in command:
            (self.work / "copy" / Path(kind.file).relative_to("run")).write_bytes(data)
        start = time.monotonic()
        code, said, memory = self._command(shlex.split(command.format(file=kind.file)), kind.folder)
        seconds = time.monotonic() - start
        target.write_bytes(valid)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        wrong = self._wrong(code, said, seconds, memory, "copy" in command)
        text = said.decode("utf-8", "backslashreplace")
        return Ended(kind.name, command, code, round(seconds, 2), memory, text[-2000:], tuple(wrong))

    def _wrong(self, code: int, said: bytes, seconds: float, memory: int, cleaned: bool) -> list[str]:
        wrong = []
        if code not in EXPECTED:
            wrong.append(f"exit code {code}" if code >= 0 else f"signal {-code}")
        if b"Traceback (most recent call last)" in said:
            wrong.append("a traceback")
        if CONTROL.search(said):
            wrong.append("control characters in the output")
        if seconds > SECONDS:
            wrong.append(f"{seconds:.0f} s")
        if memory > MEMORY:
            wrong.append(f"{memory / 1024**3:.1f} GB")
        if (self.outside / "executed").exists():
            wrong.append("code of the folder was executed")
            (self.outside / "executed").unlink()
        state = self._state()
        changed = {n for n in state.keys() | self._clean.keys() if state.get(n) != self._clean.get(n)}
        if changed:
            wrong.append(f"files written or lost: {', '.join(sorted(changed))[:200]}")
            for name in changed - self._clean.keys():
                _remove(self.work.parent / name)
            for name in changed & self._clean.keys():
                if name.startswith("work/"):
                    shutil.copy2(self.seeds / name.removeprefix("work/"), self.work.parent / name)
            self._clean = self._state()
        if cleaned and not (self.work / "copy" / "mine.txt").is_file():
            wrong.append("clean removed a file of the user's")
        left = [path.name for path in self.temporary.iterdir() if not path.name.startswith(CACHES)]
        if left:
            wrong.append(f"temporary files left: {', '.join(left)[:100]}")
            for name in left:
                _remove(self.temporary / name)
        return wrong

    def _command(self, words: list[str], folder: str) -> tuple[int, bytes, int]:
        """Exit code (negative: the signal), everything said, and the peak memory of the process or a child in bytes."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(read)
                os._exit(self._child(words, self.work / folder, write))
            finally:
                os._exit(99)
        os.close(write)
        said, deadline, hung = bytearray(), time.monotonic() + SECONDS, False
        while True:
            ready, _, _ = select.select([read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                hung = True
                break
            block = os.read(read, 1 << 16)
            if not block:
                break
            if len(said) < 1 << 22:
                said += block
        if hung:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.01)
        os.close(read)
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        return (-signal.SIGALRM if hung else os.waitstatus_to_exitcode(status)), bytes(said), usage.ru_maxrss * 1024

    def _child(self, words: list[str], folder: Path, write: int) -> int:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(write, 1), os.dup2(write, 2)
        os.chdir(folder)
        os.environ.update(
            HOME=str(self.home),
            XDG_CONFIG_HOME=str(self.work / "config"),
            XDG_CACHE_HOME=str(self.home / ".cache"),
            XDG_STATE_HOME=str(self.home / ".state"),
            TMPDIR=str(self.temporary),
            CI="true",
            COLUMNS="80",
        )
        import tempfile

        tempfile.tempdir = None
        # a bomb must not take the machine with it
        resource.setrlimit(resource.RLIMIT_DATA, (3 * MEMORY, 3 * MEMORY))
        sys.path[:] = [path for path in sys.path if path]
        sys.stdout = os.fdopen(os.dup(1), "w")
        sys.stderr = os.fdopen(os.dup(2), "w")
        from edgekit.cli import main

        code = main(words)
        sys.stdout.flush(), sys.stderr.flush()
        return code


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def one(place: Place, kind: Kind, seed: int) -> tuple[bytes, Ended]:
    """The input of a seed, and how a command on it ended. The same seed gives the same input."""
    generator = random.Random(f"{kind.name} {seed}")
    valid = (place.seeds / kind.file).read_bytes()
    try:
        data = kind.mutation(valid, generator)
    except (ValueError, IndexError, OverflowError, UnicodeError, RecursionError, AttributeError, KeyError):
        data = plain(valid, generator)  # what cannot be changed by its structure is changed as bytes
    return data, place.run(kind, data, generator.choice(kind.commands))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
