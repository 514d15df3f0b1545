"""One connection to one device through the system's `ssh`, so that its configuration, agents and hardware keys work.

A session is one `ssh` process. The remote shell first runs the script of `facts.py` and then becomes the agent (see
`ondevice/agent.py`). Both are sent over standard input: the command line is constant except for a number, so it never
contains user input. Host keys are checked by the user's own configuration; unknown ones are rejected.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import shlex
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.errors import DeviceError, InputError, Missing, os_errors
from edgekit.core.target import Address
from edgekit.devices.shared import answers, facts, untrusted
from edgekit.devices.shared.facts import END, SCRIPT, Facts
from edgekit.devices.shared.ssh_errors import ssh_error
from edgekit.devices.shared.untrusted import shown

AGENT = Path(__file__).parents[2] / "ondevice" / "agent.py"
#: time-out in seconds of the connection, authentication and the script; a small board is slow to start Python
CONNECT_SECONDS = 60.0
#: seconds without a byte transferred, or without an answer to a short request, before a device counts as hung
STALL_SECONDS = 60.0
#: time-out in seconds of ssh's own end, before it is killed
CLOSE_SECONDS = 2.0
#: the lowest rate of a slow connection: the time for a file is set by its size before it is transferred
SLOW_BYTES_PER_SECOND = 5e4
BLOCK = 1 << 16
#: bytes of a line of an answer, of everything that is printed before the agent answers, and of a session's log
LINE_BYTES, GREETING_BYTES, LOG_BYTES = 1 << 20, 1 << 22, 1 << 22
#: bytes of a line of the log
LOG_LINE_BYTES = 4096
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
#: the command for any login shell: read exactly `size` bytes and run them
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


@dataclass(frozen=True)
class Answered:
    """The files that an answer may hold, written to `folder`: by name and largest size in bytes, and up to `others` of
    any plain name, of `other_bytes` each."""

    folder: Path
    named: Mapping[str, int]
    others: int = 0
    other_bytes: int = 0

    def refusal(self, files: Sequence[tuple[str, int]]) -> str:
        """Why these names and sizes cannot be the answer's, "" if they can."""
        others = [(name, size) for name, size in files if name not in self.named]
        if bad := next((name for name, _ in others if not self.others or not untrusted.plain(name)), None):
            return f"it sent a file called {bad!r}"
        if len(others) > self.others:
            return f"it sent {len(files)} files"
        large = next(((n, size) for n, size in files if size > self.named.get(n, self.other_bytes)), None)
        return f"it sent a file of {large[1] / 1e6:,.0f} MB, {large[0]}, which is too large" if large else ""


class Session:
    """A connected device. If it does not answer, a DeviceError says what to do, and the session is closed.

    `facts` are probed when the session opens. One job runs at a time: its caller holds `busy`.
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
        #: bytes of files sent in this session; files that the device already has are not sent
        self.sent_bytes = 0
        self._buffer = b""
        #: bytes that were received since the request, without those of files
        self._received = 0
        self._stderr: deque[str] = deque(maxlen=40)
        source = AGENT.read_bytes()
        script = _script(python, len(source)).encode()
        self._process = _started(address, REMOTE.format(size=len(script)), config)
        _all.add(self)
        os.set_blocking(self._in, False)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            stop = time.monotonic() + CONNECT_SECONDS
            self._write(script + source, stop)
            self.facts = self._greeting(stop)
            self.free_bytes = self._hello(stop)
        except BaseException:
            self.close()
            raise

    def call(
        self, do: str, *, timeout: float | None = None, answered: Answered | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Send one request to the agent: its answer, checked against `answers.SCHEMAS`, within `timeout` seconds
        (STALL_SECONDS if None).

        The files that the answer may hold are `answered`; their time is set by their size.
        """
        if self.free_bytes is None:
            raise self._no_python()
        try:
            stop = time.monotonic() + (STALL_SECONDS if timeout is None else timeout)
            self._write(json.dumps({"do": do, **fields}).encode() + b"\n", stop)
            return self._answer(do, stop, answered)
        except BaseException:
            self.close()  # the rest of an answer would be read as the next one
            raise

    def send(self, files: dict[str, Path]) -> None:
        """Send the files (sha256 → local path) that the device does not have."""
        new = {sha: path for sha, path in files.items() if sha not in self.present}
        if not new:
            return
        sizes = {sha: path.stat().st_size for sha, path in new.items()}
        answer = self.checked(self.call("missing", files=sizes, timeout=STALL_SECONDS + sum(sizes.values()) / 1e6))
        if set(answer["missing"]) - set(sizes):
            self.close()
            raise self._protocol_error("it asks for files that were not offered")
        needed = sum(sizes[sha] for sha in answer["missing"])
        if needed > answer["free"]:
            raise self._disk_full(f"{needed / 1e6:,.1f} MB are needed, and {answer['free'] / 1e6:,.1f} MB are free")
        for sha in dict.fromkeys(answer["missing"]):
            log.info("sending %s (%d bytes) to %s", new[sha].name, sizes[sha], self.name)
            self.checked(self._put(sha, new[sha], sizes[sha]))
            self.sent_bytes += sizes[sha]
        self.present |= set(new)

    def _put(self, sha: str, path: Path, size: int) -> dict[str, Any]:
        try:
            stop = time.monotonic() + STALL_SECONDS + size / SLOW_BYTES_PER_SECOND
            self._write(json.dumps({"do": "put", "sha256": sha, "bytes": size}).encode() + b"\n", stop)
            left = size
            with os_errors("read", path), path.open("rb") as file:
                while block := file.read(min(BLOCK, left)):
                    self._write(block, stop)
                    left -= len(block)
            if left:
                raise InputError(f"cannot send {path}", "it became shorter while it was sent", "run this again")
            return self._answer("put", time.monotonic() + STALL_SECONDS, None)
        except BaseException:
            self.close()
            raise

    def lock(self, wait: float = 10.0) -> None:
        """Keep other edgekit processes from measuring on the device; the session's end releases the lock."""
        if not self.locked:
            self.checked(self.call("lock", wait=wait, timeout=STALL_SECONDS + wait))
            self.locked = True

    def checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer. Raises DeviceError if it reports an error."""
        error = answer.get("error")
        if not error:
            return answer
        kind, what, where = error["kind"], shown(error["what"]), shown(error.get("where", ""))
        if kind == "full":
            raise self._disk_full(f"writing {where}: {what}")
        if kind == "denied":
            next = f"give the user of {self.address} its ~/.cache/edgekit: sudo chown -R, or is its disk read-only?"
            raise DeviceError(f"{self.name} may not write {where}", what, next)
        if kind == "busy":
            raise DeviceError(f"{self.name} is busy", what, "wait until it has finished, then run this again")
        if kind == "damaged":
            raise DeviceError(
                f"a file was damaged on its way to {self.name}", what, "run it again; is its storage failing?"
            )
        why = what + (f" ({where})" if where else "")
        raise DeviceError(f"a request failed on {self.name}", why, f"edgekit targets check {self.name}")

    def close(self) -> None:
        """End the connection; the agent's input ends, so it kills the running job."""
        self.closed = True
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with the proxy command of its configuration, if any
            self._process.wait()
        self._listener.join(1)
        with suppress(OSError):
            self._process.stdout.close()  # type: ignore[union-attr]

    # --- protocol ---

    @property
    def _in(self) -> int:
        return self._process.stdin.fileno()  # type: ignore[union-attr]

    def _greeting(self, stop: float) -> Facts:
        """The facts in the script's output, after any output of the login shell."""
        said = bytearray()  # not a list: an endless run of short lines would take 30 bytes more for each
        while (line := self._line(stop)) is not None and line != END.encode():
            said += line + b"\n"
        text = said.decode("utf-8", "replace")
        if line is None:
            raise self._disconnected("\n".join(text.splitlines()[-20:]))
        return facts.parse_facts(facts.sections(text))

    def _hello(self, stop: float) -> int | None:
        """Free bytes in the agent's folder; None if the device has no Python."""
        line = self._line(stop)
        while line == b"":
            line = self._line(stop)
        if line is None:
            return None
        hello, _ = self._parsed("hello", line)
        return int(self.checked(hello)["free"])

    def _answer(self, do: str, stop: float, answered: Answered | None) -> dict[str, Any]:
        self._received = 0
        line = self._line(stop)
        if line is None:
            raise self._disconnected()
        answer, files = self._parsed(do, line)
        if files and (refusal := answered.refusal(files) if answered else "it sent files with its answer"):
            raise self._protocol_error(refusal)
        # once, and by sizes that were just limited: data that arrives does not extend it
        stop = time.monotonic() + STALL_SECONDS + sum(size for _, size in files) / SLOW_BYTES_PER_SECOND
        for name, size in files:
            path = answered.folder / name  # type: ignore[union-attr]
            with os_errors("write", path), path.open("wb") as file:
                for block in self._blocks(size, stop):
                    file.write(block)
        return answer

    def _parsed(self, do: str, line: bytes) -> tuple[dict[str, Any], tuple[tuple[str, int], ...]]:
        try:
            return answers.read(do, line)
        except ValueError as error:
            raise self._protocol_error(f"the answer to {do!r}: {error}: {shown(line, 80)}") from error

    def _write(self, data: bytes, stop: float) -> None:
        view = memoryview(data)
        while view:
            seconds = min(STALL_SECONDS, stop - time.monotonic())
            if seconds <= 0 or not select.select([], [self._in], [], seconds)[1]:
                raise self._no_response(max(seconds, 0.0))
            try:
                view = view[os.write(self._in, view[:BLOCK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._disconnected() from error

    def _line(self, stop: float) -> bytes | None:
        """The next line without its end; None if the stream ends first."""
        while b"\n" not in self._buffer:
            block = self._more(stop)
            if not block:
                return None
            self._buffer += block
            if len(self._buffer) > LINE_BYTES and b"\n" not in self._buffer:
                raise self._protocol_error(f"a line is longer than {LINE_BYTES >> 20} MB: {shown(self._buffer, 40)}")
            if self._received > GREETING_BYTES:
                raise self._protocol_error(f"it sent more than {GREETING_BYTES >> 20} MB: {shown(self._buffer, 40)}")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _blocks(self, size: int, stop: float) -> Iterator[bytes]:
        while size:
            block = self._buffer or self._more(min(stop, time.monotonic() + STALL_SECONDS))
            if not block:
                raise self._disconnected()
            block, self._buffer = block[:size], block[size:]
            size -= len(block)
            yield block

    def _more(self, stop: float) -> bytes:
        """What arrives until `stop`: after it, also what already has arrived is too late."""
        left = stop - time.monotonic()
        stdout = self._process.stdout.fileno()  # type: ignore[union-attr]
        if left <= 0 or not select.select([stdout], [], [], left)[0]:
            raise self._no_response(max(left, 0.0))
        block = os.read(stdout, BLOCK)
        self._received += len(block)
        return block

    def _listen(self) -> None:
        """Keep the last lines of ssh's messages and of the job's output, and log the first of them."""
        logged, rest, stderr = 0, b"", self._process.stderr.fileno()  # type: ignore[union-attr]
        while True:
            block = os.read(stderr, BLOCK)
            *lines, rest = (rest + block).split(b"\n")
            if rest and (not block or len(rest) > LOG_LINE_BYTES):
                lines, rest = [*lines, rest], b""
            for raw in lines:
                self._stderr.append(raw[:LOG_LINE_BYTES].decode("utf-8", "replace").rstrip())
                if logged <= LOG_BYTES:
                    log.debug("%s: %s", self.name, shown(raw, LOG_LINE_BYTES))
                    logged += len(raw) + 1
                    if logged > LOG_BYTES:
                        log.debug("%s: the rest of its output is not logged", self.name)
            if not block:
                return

    # --- errors ---

    def _disconnected(self, seen: str = "") -> Exception:
        """The error for an ended connection, from the output of ssh, or of the remote shell before the greeting."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._listener.join(1)
        opened = hasattr(self, "facts")
        return ssh_error(
            [*seen.split("\n"), *self._stderr], self.name, self.address, _front(self.config), opened=opened
        )

    def _no_response(self, seconds: float) -> DeviceError:
        """`seconds`: how long nothing arrived; 0: the time of the exchange is over, although something did."""
        why = f"it is connected, but sent nothing for {seconds:.0f} s"
        if seconds < 1:
            why = "its answer did not end in time"
        return DeviceError(f"{self.name} does not answer", why, "is it hung, or out of memory? restart it")

    def _protocol_error(self, why: str) -> DeviceError:
        next = f"does its shell print something at login? edgekit targets check {self.name}"
        return DeviceError(f"{self.name} sent an invalid answer", shown(why, 300), next)

    def _disk_full(self, why: str) -> DeviceError:
        next = f"free some space: edgekit targets clean {self.name}"
        return DeviceError(f"the disk of {self.name} is full", why, next)

    def _no_python(self) -> DeviceError:
        next = "install it on the device (Debian: sudo apt install python3), or set `python` in the target's file"
        return DeviceError(f"{self.name} has no Python", f"{self.python} was not found, or could not start", next)


def _script(python: str, size: int) -> str:
    bootstrap = shlex.quote(BOOTSTRAP.format(size=size))
    script = SCRIPT.replace("PYTHON", shlex.quote(python), 1)
    return f'{script}command -v "$python" >/dev/null 2>&1 || exit 0\nexec "$python" -I -u -c {bootstrap}\n'


def _front(config: str) -> list[str]:
    """`ssh` with the configuration file `config`, else that of EDGEKIT_SSH_CONFIG, else the user's."""
    config = config or os.environ.get("EDGEKIT_SSH_CONFIG", "")
    return ["ssh", *(["-F", config] if config else [])]


def _started(address: Address, remote: str, config: str) -> subprocess.Popen[bytes]:
    options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
    command = [*_front(config), "-T", "-x", "-a", *options, *address.words(), remote]
    pipe = subprocess.PIPE
    try:
        # in a new session: Ctrl-C reaches only edgekit, which then ends the connection
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except FileNotFoundError as error:
        next = "install OpenSSH's client (Debian: sudo apt install openssh-client)"
        raise Missing("devices are reached through ssh", "there is no ssh on the PATH", next) from error


_all: weakref.WeakSet[Session] = weakref.WeakSet()
_open: dict[tuple[Address, str, str], Session] = {}
_opening: dict[tuple[Address, str, str], threading.Lock] = {}
_guard = threading.Lock()


def session(name: str, address: Address, python: str, config: str = "") -> Session:
    """The session with a device, one per device and process; opened if needed."""
    key = address, python, config
    with _guard:
        opening = _opening.setdefault(key, threading.Lock())
    with opening:  # one lock per device: a device that does not answer does not block the others
        session = _open.get(key)
        if session is None or session.closed:
            session = _open[key] = Session(name, address, python, config)
        return session


@atexit.register
def close_all() -> None:
    """End every connection, and with it the running jobs."""
    for session in list(_all):  # including those that are still opening
        session.close()
    _open.clear()
