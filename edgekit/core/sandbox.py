"""Reads and converts files that somebody else made, in a child process with limits on memory, time and what it writes.

The child is forked, so it needs no imports of its own and no copies of samples. It has no network where the kernel
allows a namespace without one, and dies with its parent. What it answers, says and logs comes back as lines of JSON;
nothing is unpickled. Where processes cannot be forked safely (not on Linux), the work is done in this process.

Memory is limited by RLIMIT_DATA (private writable memory): torch and OpenVINO map much more address space than they
use, so RLIMIT_AS would have to be far higher than the memory that an honest file needs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import math
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgekit.core import registry
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.json import T
from edgekit.core.progress import Progress, quiet
from edgekit.core.temporary import temporary_folder

#: "off": files are read in this process, without limits
SWITCH = "EDGEKIT_SANDBOX"

#: what a small file may take: bytes of memory beyond those of the parent, CPU seconds, bytes of one written file
MEMORY, SECONDS, WRITTEN = 3 << 29, 12.0, 1 << 30
#: and for each byte of the file: a parsed graph and its copies, a pass at 4 MB/s, conversions to wider types
MEMORY_PER_BYTE, SECONDS_PER_BYTE, WRITTEN_PER_BYTE = 10, 2.5e-7, 8
#: how many times longer than on an idle core it may take
BUSY = 10
#: seconds that a child may take to end after its last message
ENDING = 20.0
#: bytes of one message from the child
LONGEST = 1 << 26

#: parts of messages of libraries that got no memory
_NO_MEMORY = (
    *("bad_alloc", "bad alloc", "allocate memory", "Failed to allocate", "Unable to allocate", "out of memory"),
    *("Arena alloc failed", "realloc of size"),
)

_PR_SET_PDEATHSIG, _CLONE_NEWUSER, _CLONE_NEWNET = 1, 0x10000000, 0x40000000

log = logging.getLogger("edgekit")

#: after so many seconds without any CPU time used a child is taken to wait for ever
STILL_SECONDS = 60.0

_inside = False


@dataclass(frozen=True)
class Limits:
    """Of a child: bytes of memory beyond its parent's, seconds of CPU time, bytes of one file that it writes."""

    memory: int
    seconds: float
    written: int

    @classmethod
    def reading(cls, size: int) -> Limits:
        """For reading and copying a model of `size` bytes: 1.6 GB and 12 s, and more for a large one."""
        return cls(
            MEMORY + MEMORY_PER_BYTE * size,
            SECONDS + SECONDS_PER_BYTE * size,
            WRITTEN + WRITTEN_PER_BYTE * size,
        )

    @classmethod
    def converting(cls, size: int, samples: int) -> Limits:
        """For converting a model that could be read, with so many bytes of samples: it may run, so take what it needs.

        Without samples four times as much as reading; with samples, whose activations are unknown, 3/4 of the machine's
        memory.
        """
        reading = cls.reading(size)
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
        memory = max(4 * reading.memory, machine) if samples else 4 * reading.memory
        return cls(memory, (2000 if samples else 40) * reading.seconds, 4 * reading.written + samples)


def size_of(paths: Iterable[Path]) -> int:
    """Bytes on the disk of the files that exist: the holes of a sparse file take none."""
    size = 0
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            size += min(status.st_size, status.st_blocks * 512)
    return size


def available() -> bool:
    return sys.platform == "linux" and os.environ.get(SWITCH) != "off" and not _inside


def call(
    work: Callable[[Progress], Any],
    subject: str,
    limits: Limits,
    progress: Progress = quiet,
    warm: Sequence[str] = (),
    *,
    parses: bool = True,
) -> Any:
    """What `work` returns, as JSON values; it runs in a child process with these limits.

    `work` gets a `progress` that is shown by the parent's. `subject`: the file, for messages. `warm`: distributions
    that it uses. Raises what `work` raises (an EdgekitError or OSError as it is, others as a RuntimeError of the same
    name), and InputError if it exceeds a limit or crashes; with `parses` also for what edgekit did not expect, since
    it was the file that caused it. A call in a child runs there; a conversion in a process that has converted to TFLite
    itself, runs in this process.
    """
    # jax's compiler waits for its pool of threads, which a forked child does not have; nothing that reads uses it
    if not available() or (not parses and "jaxlib" in sys.modules):
        return json.loads(json.dumps(work(progress)))
    _import(warm)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with temporary_folder() as folder:
        reader, writer = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if not child:
            os.close(reader)
            _run(work, writer, limits, parent, str(folder))
        os.close(writer)
        with contextlib.suppress(OSError):  # the child does it, too: neither knows which comes first
            os.setpgid(child, child)
        try:
            return _result(reader, child, subject, limits, progress)
        except Exception as error:
            if not parses or getattr(error, "at_fault", "") != "edgekit" or os.environ.get("EDGEKIT_TRACEBACK"):
                raise
            why = f"reading it failed with {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            next = "export it again; EDGEKIT_TRACEBACK=1 shows the traceback, to report it"
            raise InputError(f"{subject} cannot be read", why, next) from error
        finally:
            os.close(reader)
            _end(child)


# --- the parent ---------------------------------------------------------------------------------------------------


def _result(reader: int, child: int, subject: str, limits: Limits, progress: Progress) -> Any:
    bars = _Bars(progress)
    try:
        for message in _messages(reader, child, subject, limits):
            kind = message.get("kind")
            if kind == "answer":
                return message.get("value")
            if kind == "log":
                log.log(int(message["level"]), "%s", str(message["text"]))
            elif kind == "progress":
                bars.update(message)
            elif kind == "error":
                raise _error(message, subject, limits)
            else:
                raise ValueError(kind)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(getattr(error, "at_fault", None), str):
            raise  # the child's
        why = "the process that reads it gave an answer that is none"
        raise InputError(f"{subject} cannot be read", why, "check where the file is from") from error
    finally:
        bars.close()
    raise _crash(_exit_code(child), subject, limits)


def _exit_code(child: int) -> int:
    """Of a child that closed its end of the pipe; it is not reaped, so that its number stays its own."""
    deadline = time.monotonic() + ENDING
    while time.monotonic() < deadline:
        if ended := os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        time.sleep(0.01)
    return -signal.SIGKILL


def _end(child: int) -> None:
    """Kill it and what it started, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _messages(reader: int, child: int, subject: str, limits: Limits) -> Iterator[dict[str, Any]]:
    """The child's messages, to its end.

    Raises InputError after the time limit, or if it stands still; ValueError for what is no message.
    """
    deadline, buffer = time.monotonic() + BUSY * limits.seconds, b""
    used, moved = -1, time.monotonic()
    while True:
        wait = min(deadline - time.monotonic(), STILL_SECONDS / 4)
        ready, _, _ = select.select([reader], [], [], max(0.0, wait))
        if not ready:
            if (now := _ticks(child)) != used:
                used, moved = now, time.monotonic()
            if time.monotonic() >= deadline:
                raise _too_long(subject, BUSY * limits.seconds)
            if time.monotonic() - moved > STILL_SECONDS:
                why = f"the process that reads it has stood still for {STILL_SECONDS:.0f} s"
                raise InputError(f"{subject} cannot be read", why, _trust())
            continue
        moved = time.monotonic()
        data = os.read(reader, 1 << 20)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n") if b"\n" in data else (buffer + data,)
        if len(buffer) > LONGEST:
            raise ValueError("too long")
        for line in lines:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("not an object")
            yield message


def _ticks(child: int) -> int:
    """The CPU time of the child and of what it has waited for; a moving number while it has children of its own."""
    try:
        if Path(f"/proc/{child}/task/{child}/children").read_text():
            return time.monotonic_ns()
        return sum(map(int, Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:15]))
    except OSError:  # it has ended
        return 0


class _Bars:
    """Shows the progress of the child's loops as if they were the parent's."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._loops: dict[int, Iterator[None]] = {}
        self._ended: set[int] = set()

    def update(self, message: dict[str, Any]) -> None:
        """Raises KeyError or ValueError for what is no message about a loop."""
        loop, state, total = int(message["loop"]), message["state"], message["total"]
        if state == "ended":
            self._end(loop)
        elif loop not in self._loops:
            steps = self._steps(loop)
            self._loops[loop] = self._progress(steps, str(message["what"]), None if total is None else int(total))
            next(self._loops[loop], None)
        else:
            next(self._loops[loop], None)

    def close(self) -> None:
        for loop in list(self._loops):
            self._end(loop)

    def _end(self, loop: int) -> None:
        self._ended.add(loop)
        if loop in self._loops:
            next(self._loops.pop(loop), None)

    def _steps(self, loop: int) -> Iterator[None]:
        while loop not in self._ended:
            yield


def _error(message: dict[str, Any], subject: str, limits: Limits) -> BaseException:
    """The child's exception, made again."""
    name, text = str(message["class"]), str(message["text"])
    if message["type"] == "edgekit":
        known = {cls.__name__: cls for cls in _subclasses(EdgekitError)}
        return _nearest(known.get(name, InputError))(text, str(message["why"]), str(message["next"]))
    if message["type"] == "os":
        number, file = message["errno"], message["file"]
        return OSError(int(number), text, *([str(file)] if file is not None else []))
    if name == "MemoryError" or any(words in text for words in _NO_MEMORY):
        return _too_large(subject, limits)
    again: BaseException = type(name, (RuntimeError,), {})(text)
    again.at_fault = str(message["at_fault"])  # type: ignore[attr-defined]
    again.add_note(str(message["trace"]))
    return again


def _subclasses(cls: type[EdgekitError]) -> Iterator[type[EdgekitError]]:
    yield cls
    for inner in cls.__subclasses__():
        yield from _subclasses(inner)


def _nearest(cls: type[EdgekitError]) -> type[EdgekitError]:
    """It, or the first of its bases that is made of what, why and next."""
    return next(base for base in cls.__mro__ if issubclass(base, EdgekitError) and "__init__" not in vars(base))


def _crash(code: int, subject: str, limits: Limits) -> EdgekitError:
    """Why the child ended without an answer."""
    if code == -signal.SIGXCPU:
        return _too_long(subject, limits.seconds)
    if code == -signal.SIGKILL:
        return _too_large(subject, limits)
    how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
    why = f"the library that reads it {how}: it is damaged, made to crash it, or not supported"
    return InputError(f"{subject} cannot be read", why, "export it again, and check where the file is from")


def _too_long(subject: str, seconds: float) -> EdgekitError:
    why = f"it was stopped after {seconds:.0f} s, which is much for a file of its size"
    return InputError(f"{subject} takes too long", why, _trust())


def _too_large(subject: str, limits: Limits) -> EdgekitError:
    why = f"reading it takes more than {limits.memory / 1e9:.1f} GB, which is much for a file of its size"
    return InputError(f"{subject} needs too much memory", why, _trust())


def _trust() -> str:
    return f"check where the file is from; if you trust it, set {SWITCH}=off"


# --- the child ----------------------------------------------------------------------------------------------------


def _run(work: Callable[[Progress], Any], writer: int, limits: Limits, parent: int, folder: str) -> NoReturn:
    """Do the work, send its answer, and end the process."""
    global _inside
    code = 1
    try:
        _inside = True
        send = _Sender(writer)
        _confine(limits, parent)
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        _relay_log(send)
        try:
            answer = json.dumps({"kind": "answer", "value": work(_relayed(send))})
        except BaseException as error:
            send(**_described(error))
        else:
            send.text(answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                stream.flush()
        os._exit(code)


class _Sender:
    """Sends messages to the parent, one JSON object per line."""

    def __init__(self, writer: int) -> None:
        self._writer = writer

    def __call__(self, **message: Any) -> None:
        self.text(json.dumps(message))

    def text(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        while data:
            data = data[os.write(self._writer, data) :]


def _confine(limits: Limits, parent: int) -> None:
    """Limits, no network, and the death of the parent. A limit that is already lower stays."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _without_network(library)
    memory = _data_bytes() + limits.memory
    seconds = math.ceil(limits.seconds)
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.written),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # at the soft limit of CPU time comes SIGXCPU, which says the reason; at the hard one SIGKILL
        more = 1 if limit == resource.RLIMIT_CPU and hard != value else 0
        resource.setrlimit(limit, (value, value + more))
    if "torch" in sys.modules and len(list(Path(f"/proc/{parent}/task").iterdir())) > 1:
        # the parent's OpenMP threads, of any number, are not in the child, which would wait for them
        sys.modules["torch"].set_num_threads(1)


def _import(distributions: Sequence[str]) -> None:
    """Import what is costly to import, so that each child need not; none of it starts threads."""
    with contextlib.suppress(Exception):  # the child reports it
        if "onnx" in distributions:
            import onnx  # noqa: F401
        if "safetensors" in distributions:
            import safetensors  # noqa: F401
        if "torch" in distributions:
            import torch  # noqa: F401
        if "transformers" in distributions:
            import transformers  # noqa: F401
        if "ai-edge-litert" in distributions:
            import ai_edge_litert.schema_py_generated  # noqa: F401


def _without_network(library: ctypes.CDLL) -> None:
    """A network namespace with nothing in it; users other than root need a user namespace for it, as themselves."""
    user, group = os.getuid(), os.getgid()
    if library.unshare(_CLONE_NEWNET) == 0 or library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _data_bytes() -> int:
    """The private writable memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData")), 0)


def _relay_log(send: _Sender) -> None:
    class Relay(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            send(kind="log", level=record.levelno, text=self.format(record))

    log.handlers, log.propagate = [Relay()], False


def _relayed(send: _Sender) -> Progress:
    loops = iter(range(sys.maxsize))

    def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        message = {"kind": "progress", "loop": next(loops), "what": what, "total": total}
        try:
            for item in items:
                send(**message, state="next")
                yield item
        finally:
            send(**message, state="ended")

    return progress


def _described(error: BaseException) -> dict[str, Any]:
    about = {"kind": "error", "class": type(error).__name__, "text": str(error), "type": "other"}
    if isinstance(error, EdgekitError):
        return {**about, "type": "edgekit", "text": error.what, "why": error.why, "next": error.next}
    if isinstance(error, OSError) and error.errno is not None:
        file = None if error.filename is None else os.fsdecode(error.filename)
        return {**about, "type": "os", "text": error.strerror or "", "errno": error.errno, "file": file}
    trace = "".join(traceback.format_exception(error))
    return {**about, "at_fault": registry.at_fault(error), "trace": trace[-8000:]}
