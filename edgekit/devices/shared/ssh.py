"""One connection to one device, through the system's `ssh`, so that its config, agents and hardware keys all work.

A session is one `ssh` process. The far shell first runs the script of `_facts` and then becomes the agent (see
`ondevice/agent.py`). Both come over standard input: the command line is a constant but for a number, so nothing that a
user wrote is ever part of one. Host keys are checked as the user's own configuration says: unknown ones are refused.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import select
import shlex
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekit.core.errors import DeviceError, InputError, Missing, os_errors
from edgekit.core.target import Address
from edgekit.devices.shared import facts
from edgekit.devices.shared.facts import END, SCRIPT, Facts
from edgekit.devices.shared.ssh_errors import refusal

AGENT = Path(__file__).parents[2] / "ondevice" / "agent.py"
#: seconds for the connection, the keys and the script; a small board takes some to start Python
CONNECT_SECONDS = 60.0
#: seconds without a byte moving, or without an answer to a short question, before a device counts as hung
STALL_SECONDS = 60.0
BLOCK = 1 << 16
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ControlMaster": "no",
    "ClearAllForwardings": "yes",
    "RequestTTY": "no",
    "LogLevel": "ERROR",
}
#: what the login shell is given, whichever it is: read so many bytes, not one more, and run them
REMOTE = """exec sh -c 'eval "$(dd bs=1 count={size} 2>/dev/null)"'"""
#: reads the agent from standard input and becomes it
BOOTSTRAP = """import os
source = b""
while len(source) < {size}:
    block = os.read(0, {size} - len(source))
    if not block:
        raise SystemExit(1)
    source += block
exec(compile(source, "agent.py", "exec"))"""

log = logging.getLogger("edgekit")


class Session:
    """A device that answers; where it does not, a DeviceError says what to do, and the session is closed.

    `facts` were read when it was opened. One job at a time: `busy` is held around it by whoever uses the session.
    """

    def __init__(self, name: str, address: Address, python: str, config: str = "") -> None:
        self.name, self.address, self.python, self.config = name, address, python, config
        self.busy = threading.RLock()
        self.present: set[str] = set()
        self.environments: dict[str, str] = {}
        self.versions: dict[str, str] | None = None
        self.implementations: dict[str, dict[str, str | None]] = {}
        self.pip: bool | None = None
        self.locked = self.closed = False
        #: of files, since it was opened: what was there already is not sent
        self.sent_bytes = 0
        self._buffer = b""
        self._said: deque[str] = deque(maxlen=40)
        source = AGENT.read_bytes()
        script = _script(python, len(source)).encode()
        self._process = _started(address, REMOTE.format(size=len(script)), config)
        _all.add(self)
        os.set_blocking(self._in, False)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            stop = time.monotonic() + CONNECT_SECONDS
            self._write(script + source)
            self.facts = self._greeting(stop)
            self.free_bytes = self._hello(stop)
        except BaseException:
            self.close()
            raise

    def call(
        self, do: str, *, timeout: float = STALL_SECONDS, out: Path | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Ask the agent for one thing; files that come with the answer are written into `out`."""
        if self.free_bytes is None:
            raise self._no_python()
        try:
            self._write(json.dumps({"do": do, **fields}).encode() + b"\n")
            return self._answer(do, time.monotonic() + timeout, out)
        except BaseException:
            self.close()  # half an answer would be taken for the next one
            raise

    def send(self, files: dict[str, Path]) -> None:
        """Put files (sha256 → where they lie here) on the device, those that are not there yet."""
        new = {sha: path for sha, path in files.items() if sha not in self.present}
        if not new:
            return
        sizes = {sha: path.stat().st_size for sha, path in new.items()}
        found = self.checked(self.call("missing", files=sizes, timeout=STALL_SECONDS + sum(sizes.values()) / 1e6))
        wanted = sum(sizes[sha] for sha in found["missing"])
        if wanted > found["free"]:
            raise self._full(f"{wanted / 1e6:,.1f} MB are to be sent, and {found['free'] / 1e6:,.1f} MB are free")
        for sha in found["missing"]:
            log.info("sending %s (%d bytes) to %s", new[sha].name, sizes[sha], self.name)
            self.checked(self._put(sha, new[sha], sizes[sha]))
            self.sent_bytes += sizes[sha]
        self.present |= set(new)

    def _put(self, sha: str, path: Path, size: int) -> dict[str, Any]:
        try:
            self._write(json.dumps({"do": "put", "sha256": sha, "bytes": size}).encode() + b"\n")
            left = size
            with os_errors("read", path), path.open("rb") as file:
                while block := file.read(min(BLOCK, left)):
                    self._write(block)
                    left -= len(block)
            if left:
                raise InputError(f"cannot send {path}", "it got shorter meanwhile", "leave it alone and run this again")
            return self._answer("put", time.monotonic() + STALL_SECONDS, None)
        except BaseException:
            self.close()
            raise

    def lock(self, wait: float = 10.0) -> None:
        """Keep other edgekits from measuring there; the lock goes with the session."""
        if not self.locked:
            self.checked(self.call("lock", wait=wait, timeout=STALL_SECONDS + wait))
            self.locked = True

    def checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer. Raises DeviceError where it is a refusal of the device's system."""
        error = answer.get("error")
        if not error:
            return answer
        kind, what = error.get("kind"), str(error.get("what", ""))
        if kind == "full":
            raise self._full(f"writing {error.get('where', '')}: {what}")
        if kind == "busy":
            raise DeviceError(f"{self.name} is busy", what, "wait until it has finished, then run this again")
        if kind == "damaged":
            raise DeviceError(f"a file came to {self.name} damaged", what, "run it again; is its storage failing?")
        where = f" ({error['where']})" if error.get("where") else ""
        raise DeviceError(f"{self.name} refused", what + where, f"edgekit targets check {self.name}")

    def close(self) -> None:
        """End the connection; whatever runs there is killed, since its agent's input ends."""
        self.closed = True
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(1)
        with suppress(OSError):
            self._process.stdout.close()  # type: ignore[union-attr]

    # --- what comes and goes ---

    @property
    def _in(self) -> int:
        return self._process.stdin.fileno()  # type: ignore[union-attr]

    def _greeting(self, stop: float) -> Facts:
        """The sections of the script, after whatever a login shell prints first."""
        seen: list[bytes] = []
        while (line := self._line(stop)) is not None and line != END.encode():
            seen.append(line)
        if line is None:
            raise self._ended(b" ".join(seen).decode("utf-8", "replace"))
        return facts.read(facts.sections(b"\n".join(seen).decode("utf-8", "replace")))

    def _hello(self, stop: float) -> int | None:
        """Bytes that are free where the agent keeps its files; None where there is no Python to be one."""
        line = self._line(stop)
        while line == b"":
            line = self._line(stop)
        if line is None:
            return None
        return int(self.checked(self._parsed(line, "hello"))["free"])

    def _answer(self, do: str, stop: float, out: Path | None) -> dict[str, Any]:
        line = self._line(stop)
        if line is None:
            raise self._ended()
        answer = self._parsed(line, do)
        for name, size in answer.get("files", []):
            if out is None or not re.fullmatch(r"\w[\w.-]*", str(name)):
                raise self._nonsense(f"it sent a file called {name!r}")
            path = out / name
            with os_errors("write", path), path.open("wb") as file:
                for block in self._blocks(int(size)):
                    file.write(block)
        return answer

    def _parsed(self, line: bytes, do: str) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._nonsense(f"the answer to {do!r} is {line[:80]!r}")
        return answer

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not select.select([], [self._in], [], STALL_SECONDS)[1]:
                raise self._silent(STALL_SECONDS)
            try:
                view = view[os.write(self._in, view[:BLOCK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._ended() from error

    def _line(self, stop: float) -> bytes | None:
        """The next line without its end; None where the stream ends before one does."""
        while b"\n" not in self._buffer:
            block = self._more(stop)
            if not block:
                return None
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _blocks(self, size: int) -> Iterator[bytes]:
        while size:
            block = self._buffer or self._more(time.monotonic() + STALL_SECONDS)
            if not block:
                raise self._ended()
            block, self._buffer = block[:size], block[size:]
            size -= len(block)
            yield block

    def _more(self, stop: float) -> bytes:
        started = time.monotonic()
        stdout = self._process.stdout.fileno()  # type: ignore[union-attr]
        if not select.select([stdout], [], [], max(0.0, stop - started))[0]:
            raise self._silent(stop - started)
        return os.read(stdout, BLOCK)

    def _listen(self) -> None:
        for raw in self._process.stderr or ():
            line = raw.decode("utf-8", "replace").rstrip()
            self._said.append(line)
            log.debug("%s: %s", self.name, line)

    # --- what can go wrong ---

    def _ended(self, seen: str = "") -> Exception:
        """The connection is over: what ssh said of it, or the far shell in place of the greeting."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._listener.join(1)
        opened = hasattr(self, "facts")
        return refusal([*seen.split("\n"), *self._said], self.name, self.address, _front(self.config), opened=opened)

    def _silent(self, seconds: float) -> DeviceError:
        why = f"connected, but nothing came for {seconds:.0f} s"
        return DeviceError(f"{self.name} does not answer", why, "is it hung, or short of memory? restart it")

    def _nonsense(self, why: str) -> DeviceError:
        next = f"does its shell print something at login? edgekit targets check {self.name}"
        return DeviceError(f"{self.name} answered what is not a result", why, next)

    def _full(self, why: str) -> DeviceError:
        next = f"free some space: edgekit targets clean {self.name}"
        return DeviceError(f"the disk of {self.name} is full", why, next)

    def _no_python(self) -> DeviceError:
        next = "install it there (Debian: sudo apt install python3), or set `python` in the target's file"
        return DeviceError(f"{self.name} has no Python", f"{self.python} was not found, or could not start", next)


def _script(python: str, size: int) -> str:
    bootstrap = shlex.quote(BOOTSTRAP.format(size=size))
    script = SCRIPT.replace("PYTHON", shlex.quote(python), 1)
    return f'{script}command -v "$python" >/dev/null 2>&1 || exit 0\nexec "$python" -I -u -c {bootstrap}\n'


def _front(config: str) -> list[str]:
    """`ssh`, with the configuration file given, else the one that EDGEKIT_SSH_CONFIG names, else the user's."""
    config = config or os.environ.get("EDGEKIT_SSH_CONFIG", "")
    return ["ssh", *(["-F", config] if config else [])]


def _started(address: Address, remote: str, config: str) -> subprocess.Popen[bytes]:
    options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
    command = [*_front(config), "-T", "-x", "-a", *options, *address.words(), remote]
    pipe = subprocess.PIPE
    try:
        # a session of its own: Ctrl-C is for edgekit, which then ends the connection
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except FileNotFoundError as error:
        next = "install OpenSSH's client (Debian: sudo apt install openssh-client)"
        raise Missing("devices are reached through ssh", "there is no ssh on the PATH", next) from error


_all: weakref.WeakSet[Session] = weakref.WeakSet()
_open: dict[tuple[Address, str, str], Session] = {}
_opening: dict[tuple[Address, str, str], threading.Lock] = {}
_guard = threading.Lock()


def session(name: str, address: Address, python: str, config: str = "") -> Session:
    """The open session with a device, or a new one: there is one per device and process."""
    key = address, python, config
    with _guard:
        opening = _opening.setdefault(key, threading.Lock())
    with opening:  # so that one device that does not answer holds up nobody else
        found = _open.get(key)
        if found is None or found.closed:
            found = _open[key] = Session(name, address, python, config)
        return found


@atexit.register
def close_all() -> None:
    """End every connection, and with it whatever runs on a device."""
    for found in list(_all):  # those that are not open yet as well
        found.close()
    _open.clear()
