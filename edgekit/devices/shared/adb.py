"""One device through the system's `adb`: its server and its keys, over USB or the network.

A device receives archives, and scripts for its own shell (toybox or busybox). The only user-written name in a script is
a deployment's folder, quoted (`phone_releases.py`): files are named by their sha256, jobs by a number.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import io
import logging
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgekit.core import children
from edgekit.core.errors import DeviceError, EdgekitError, Missing, os_errors
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared import facts
from edgekit.devices.shared.facts import END, START, Facts
from edgekit.devices.shared.job import signal_name
from edgekit.devices.shared.untrusted import shown

#: the one folder where every Android lets the shell's user write and execute, and edgekit's folder in it
HOME = "/data/local/tmp"
ROOT = f"{HOME}/.edgekit"
#: time-outs in seconds of a short script, and of a connection over the network
SHELL_SECONDS, CONNECT_SECONDS = 60.0, 15.0
#: the lowest transfer rate of a slow cable, in bytes per second
SLOW_BYTES_PER_SECOND = 1e6
#: bytes of a command's output
OUTPUT_BYTES = 1 << 22
BLOCK = 1 << 16
EXIT = re.compile(rb"\n?== exit (\d{1,5})\r?\n?$")

#: prints one section per fact; a section that a system does not have is empty
FACTS = rf"""
say() {{ printf '\n== %s\n' "$1"; }}
printf '\n{START}\n'
say uname; uname -s; uname -r; uname -m
say cpuinfo; cat /proc/cpuinfo 2>/dev/null
say cores; nproc 2>/dev/null || grep -c '^processor' /proc/cpuinfo
say meminfo; cat /proc/meminfo 2>/dev/null
say disk; df -Pk /data/local/tmp 2>/dev/null || df -k /data/local/tmp 2>/dev/null
say date; date +%s
say thermal; for zone in /sys/class/thermal/thermal_zone*; do cat "$zone/temp" 2>/dev/null; done
say governor; cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null
say release; cat /etc/os-release 2>/dev/null
say libc; for loader in /lib/ld-linux-aarch64.so.1 /lib64/ld-linux-x86-64.so.2; do
    [ -f "$loader" ] && "$loader" --version 2>/dev/null | head -n 1
done
say getprop; getprop 2>/dev/null
printf '\n{END}\n'
"""

#: runs a job until it ends or the connection ends; its output is forwarded as it is printed
RUN = """cd {folder} || exit 1
exec 3<&0
OMP_NUM_THREADS={threads} {runner} job.json out/result.json </dev/null 2>&1 & job=$!
{{ read line <&3; kill -9 $job; }} >/dev/null 2>&1 & watchdog=$!
wait $job; code=$?
kill -9 $watchdog 2>/dev/null
exit $code"""

log = logging.getLogger("edgekit")


def getprop(text: str) -> dict[str, str]:
    """Lines such as `[ro.product.model]: [Pixel 7]` → a dictionary; {} if there is no getprop."""
    return dict(re.findall(r"^\[([\w.-]+)\]: \[(.*)\]\r?$", text, re.MULTILINE))


def phone_facts(sections: Mapping[str, str]) -> Facts:
    """The facts in the script's sections; the model and the system are Android's properties, if it has them."""
    properties = getprop(sections.get("getprop", ""))
    model = " ".join(filter(None, (properties.get(f"ro.product.{name}", "") for name in ("manufacturer", "model"))))
    texts = {name: text.replace("\r", "") for name, text in sections.items()} | {"model": model}
    loader = re.search(r"GLIBC.*version (\d+\.\d+)", texts.get("libc", ""))
    texts["libc"] = f"glibc {loader[1]}" if loader else ""
    if release := properties.get("ro.build.version.release", ""):
        api = properties.get("ro.build.version.sdk", "?")
        texts["release"] = f'PRETTY_NAME="Android {release} (API {api})"'
    return facts.parse_facts(texts)


def connect(serial: str) -> str:
    """Connect to a device at host:port; "" or adb's error message. A device on a cable needs no connection."""
    if ":" not in serial:
        return ""
    output = adb(["connect", serial], CONNECT_SECONDS)[1]
    return (
        "" if re.search(r"^(already )?connected to", output, re.MULTILINE) else output.strip() or "it does not answer"
    )


def _state(serial: str) -> tuple[str, str]:
    """(adb's error message, the device's state: `device` if it answers)."""
    output = connect(serial)
    return output, adb(["-s", serial, "get-state"], CONNECT_SECONDS)[1].strip()


def is_up(port: int) -> bool:
    """Does the adbd at a port of this machine answer?"""
    serial = f"127.0.0.1:{port}"
    try:
        return _state(serial) == ("", "device")
    except DeviceError:
        return False


class TooMuchOutput(Exception):
    """A command printed more than it may."""


#: what to do about a measurement that took too long
LONGER = "use --quick, or allow more time in a recipe: edgekit run RECIPE --set plan.timeout=SECONDS"


def adb(words: Sequence[str], timeout: float) -> tuple[int, str]:
    """(exit code, output) of one adb command. Raises Missing or DeviceError."""
    try:
        code, output = _run(["adb", *words], timeout)
    except (TimeoutError, TooMuchOutput) as error:
        return -9, str(error)
    return code, output.decode("utf-8", "replace")


def timed_out(what: str, seconds: float, next: str) -> DeviceError:
    return DeviceError(f"{what} took too long", f"no result after {seconds:g} s; it was stopped", next)


class Phone:
    """A connected device. Every method raises DeviceError."""

    def __init__(self, name: str, serial: str) -> None:
        self.name, self.serial = name, serial
        self.busy = threading.RLock()
        self.present: set[str] = set()
        self.sent_bytes = 0
        self.locked: IO[str] | None = None
        self.disconnected = False
        self.open()

    def open(self) -> None:
        """Connect to the device and probe it; called again after a disconnection."""
        output, state = _state(self.serial)
        if "offline" in state and ":" in self.serial:  # adb keeps a broken connection
            adb(["disconnect", self.serial], CONNECT_SECONDS)
            output, state = _state(self.serial)
        if state != "device":
            raise adb_error(output or state, self.name, self.serial)
        self.present.clear()
        _, text = self.shell(FACTS)
        self.facts = phone_facts(facts.sections(text))
        self.disconnected = False
        if self.locked:
            self.shell(f"rm -rf {ROOT}/jobs/*")  # of the interrupted job

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Reserve the device for this thread; reconnects if the connection was lost meanwhile."""
        with self.busy:
            if self.disconnected:
                self.open()
            self.lock()
            yield

    def shell(self, script: str, timeout: float | None = None, what: str = "") -> tuple[int, str]:
        """A script's exit code and output; the script prints the code, since adbd on old devices does not return it."""
        timeout = SHELL_SECONDS if timeout is None else timeout
        command = ["adb", "-s", self.serial, "shell", f'(\n{script}\n); code=$?; echo; echo "== exit $code"']
        try:
            code, output = _run(command, timeout, held=True)
        except TimeoutError as error:
            next = LONGER if what else f"edgekit targets check {self.name}"
            raise timed_out(what or f"a command on {self.name}", timeout, next) from error
        except TooMuchOutput as error:
            self.disconnected = True
            next = f"edgekit targets check {self.name}"
            raise DeviceError(f"{self.name} sent an invalid answer", str(error), next) from error
        status = EXIT.search(output)
        text = (output[: status.start()] if status else output).decode("utf-8", "replace")
        if not status:
            raise self._disconnected(text or f"adb ended with exit code {code}")
        for line in text.splitlines():
            log.debug("%s: %s", self.name, shown(line, 4000))
        return int(status[1]), text

    def checked(self, script: str, timeout: float | None = None) -> str:
        """The output of a script. Raises DeviceError if it fails."""
        code, text = self.shell(script, timeout)
        if code != 0:
            raise self._command_failed(text)
        return text

    def send(self, files: Mapping[str, Path], extra: Mapping[str, bytes]) -> None:
        """Send the files (sha256 → local path) that the device does not have, and `extra` (path → content), as one
        archive; the device then computes each file's sha256."""
        new = {sha: path for sha, path in files.items() if sha not in self.present}
        intact = self._intact(new) if new else set()
        missing = {sha: path for sha, path in new.items() if sha not in intact}
        size = sum(path.stat().st_size for path in missing.values())
        free = self.free()
        if free is not None and 2 * size > free:  # the archive and its content
            why = f"{2 * size / 1e6:,.1f} MB are needed, and {free / 1e6:,.1f} MB are free"
            raise self._storage_full(why)
        with temporary_folder() as folder:
            archive = folder / "sent.tar"
            with os_errors("write", archive):
                _write_archive(archive, {f"files/{sha}": path for sha, path in missing.items()}, extra)
            self.checked(f"mkdir -p {ROOT}/files {ROOT}/jobs && chmod 700 {ROOT}")
            words = ["-s", self.serial, "push", str(archive), f"{ROOT}/sent.tar"]
            code, output = adb(words, SHELL_SECONDS + archive.stat().st_size / SLOW_BYTES_PER_SECOND)
            if code != 0:
                self.shell(f"rm -f {ROOT}/sent.tar")
                raise self._disconnected(output)
        unpacked = f"cd {ROOT} && tar -xf sent.tar; code=$?; rm -f sent.tar; exit $code"
        self.checked(unpacked, SHELL_SECONDS + size / SLOW_BYTES_PER_SECOND)
        if damaged := set(missing) - self._intact(missing):
            self.shell(f"cd {ROOT}/files && rm -f {' '.join(sorted(damaged))}")
            what = f"a file was damaged on its way to {self.name}"
            raise DeviceError(what, "the sha256 of the received file differs", "run it again; is its storage failing?")
        self.sent_bytes += size
        self.present |= set(new)

    def check_exit(self, code: int, output: str, what: str, limit: float, next: str = LONGER) -> None:
        """Raises DeviceError if the runner's exit code is not 0; `next` is what to do if it took too long."""
        if code == 128 + signal.SIGALRM:
            raise timed_out(what, limit, next)
        if code:
            raise DeviceError(f"{what} failed", self._why(code, output), "see log.txt in the run folder")

    def _why(self, code: int, output: str) -> str:
        lines = [shown(line, 300) for line in output.splitlines() if line.strip()]
        if code == 128 + signal.SIGKILL:
            memory = f"it has {self.facts.memory_bytes >> 20} MB"
            return f"the process was killed, probably because memory ran out: {memory}"
        full = next((line for line in lines if "No space left on device" in line), "")
        if full or code == 128 + signal.SIGBUS:
            return f"its storage is full: {full or 'a file could not be extended'}"
        if code == 128 + signal.SIGILL:
            return f"the runtime's library uses instructions that its processor ({self.facts.cpu}) does not have"
        if 128 < code < 128 + signal.NSIG:
            return f"the process was killed by {signal_name(code - 128)}" + (f": {lines[-1]}" if lines else "")
        return f"it ended with exit code {code}" + (f": {lines[-1]}" if lines else "")

    def pull(self, there: str, here: Path, named: Mapping[str, int]) -> None:
        """Copy files of a folder on the device, those of `named` that it has, into the folder `here`.

        `named`: name → largest size in bytes. Not `adb pull`: it writes as many files, of as many bytes and under such
        names, as the device says.
        """
        listing = self.checked(
            f"cd {there} && for name in {' '.join(map(shlex.quote, named))}; do"
            ' if [ -f "$name" ]; then echo "$(wc -c <"$name") $name"; fi; done'
        )
        for line in listing.splitlines():
            match = re.fullmatch(r"\s*(\d{1,15}) (\S+)\s*", line)
            if not match:
                continue
            size, name = int(match[1]), match[2]
            if name not in named or size > named[name]:
                what = f"{self.name} sent an invalid answer"
                why = f"a file called {shown(name)}, of {size / 1e6:,.0f} MB: too large, or not asked for"
                raise DeviceError(what, why, f"edgekit targets check {self.name}")
            self._pull(f"{there}/{name}", here / name, size)

    def _pull(self, there: str, path: Path, size: int) -> None:
        command = ["adb", "-s", self.serial, "exec-out", f"cat {there}"]
        with os_errors("write", path), path.open("wb") as file:
            try:
                _run(command, SHELL_SECONDS + size / SLOW_BYTES_PER_SECOND, most=size, file=file)
                seen = f"it sent {file.tell()} of {size} bytes of {path.name}" if file.tell() < size else ""
            except (TimeoutError, TooMuchOutput) as error:
                seen = f"{path.name}: {error}"
        if seen:
            raise self._disconnected(seen)

    def free(self) -> int | None:
        """Free bytes on the device."""
        return facts.free_bytes(self.shell("df -Pk /data/local/tmp 2>/dev/null || df -k /data/local/tmp")[1])

    def lock(self) -> None:
        """Keep other edgekit processes of this machine from measuring on the device."""
        if self.locked:
            return
        from platformdirs import user_cache_path

        path = user_cache_path("edgekit") / "adb" / hashlib.sha256(self.serial.encode()).hexdigest()[:16]
        with os_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            next = "wait until it has finished, then run this again"
            raise DeviceError(f"{self.name} is busy", "another edgekit process is measuring on it", next) from error
        self.locked = file
        self.shell(f"rm -rf {ROOT}/jobs/*")  # left by an interrupted process

    def close(self) -> None:
        if self.locked:
            self.locked.close()
            self.locked = None

    def _intact(self, files: Mapping[str, Path]) -> set[str]:
        """The files on the device whose content has the sha256 they are named by."""
        if not files:
            return set()
        size = sum(path.stat().st_size for path in files.values())
        names = " ".join(sorted(files))
        _, output = self.shell(
            f"cd {ROOT}/files 2>/dev/null && sha256sum {names} 2>/dev/null",
            SHELL_SECONDS + size / SLOW_BYTES_PER_SECOND,
        )
        lines = (line.split() for line in output.splitlines())
        return {words[1] for words in lines if len(words) == 2 and words[0] == words[1]} & set(files)

    def _disconnected(self, output: str) -> EdgekitError:
        """The error for a lost connection; the device must be opened again."""
        self.disconnected = True
        return adb_error(output, self.name, self.serial, opened=True)

    def _command_failed(self, output: str) -> EdgekitError:
        last = shown(next((line for line in reversed(output.splitlines()) if line.strip()), "no message"), 300)
        if "No space left on device" in output:
            return self._storage_full(last)
        if re.search(r"Permission denied|Read-only file system", output):
            next_ = f"may its shell user write {HOME}? remove what another user left: adb shell ls -l {HOME}"
            return DeviceError(f"{self.name} may not write its storage", last, next_)
        return DeviceError(f"a command failed on {self.name}", last, f"edgekit targets check {self.name}")

    def _storage_full(self, why: str) -> DeviceError:
        next = f"free some space: edgekit targets clean {self.name}"
        return DeviceError(f"the storage of {self.name} is full", why, next)


def _write_archive(archive: Path, files: Mapping[str, Path], extra: Mapping[str, bytes]) -> None:
    """An archive in the USTAR format, which every tar can read."""
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o755
            with path.open("rb") as file:
                tar.addfile(member, file)
        for name, content in extra.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))


#: (pattern of adb's output, what happened, what to do), the most specific first
_MEANINGS = (
    (
        r"unauthorized|failed to authenticate",
        "{name} has not authorized this computer",
        "unlock it and allow USB debugging on its screen",
    ),
    (
        r"no permissions|insufficient permissions",
        "adb has no permission to use the USB device of {name}",
        "add a udev rule: Debian's package adb contains one",
    ),
    (r"more than one device", "adb sees several devices", "name one: adb devices -l lists them"),
    (r"No space left on device", "the storage of {name} is full", "edgekit targets clean {name}"),
    (
        r"offline|authorizing|still connecting",
        "{name} is connected but does not answer",
        "reconnect its cable, or run: adb reconnect offline",
    ),
    (
        r"not found|no devices|failed to connect|Connection refused|cannot connect|does not answer|timed out",
        "adb does not see {name} ({serial})",
        "is USB debugging on, and the cable connected? adb devices -l lists the devices",
    ),
)


def adb_error(output: str, name: str, serial: str, *, opened: bool = False) -> EdgekitError:
    """The error for adb's output; `opened`: the device had answered before."""
    lines = [line for line in output.splitlines() if line.strip()]
    last = shown(lines[-1], 300) if lines else "it ended without a message"
    for pattern, what, next in _MEANINGS:
        if re.search(pattern, output):
            return DeviceError(what.format(name=name, serial=serial), last, next.format(name=name))
    if opened:
        hint = "is it on, and was it restarted? run the same command again: finished work is kept"
        return DeviceError(f"the connection to {name} was lost", last, hint)
    return DeviceError(f"cannot talk to {name} ({serial})", last, "try: adb devices -l")


_children: set[subprocess.Popen[bytes]] = set()
_serving = threading.Lock()


def _run(
    command: Sequence[str],
    timeout: float,
    held: bool = False,
    most: int = OUTPUT_BYTES,
    file: IO[bytes] | None = None,
) -> tuple[int, bytes]:
    """(exit code, output) of a child; `held`: its input stays open, so that the remote process ends with it.

    The output, of at most `most` bytes, is written to `file`, if given. Raises TimeoutError, whatever arrives
    meanwhile, or TooMuchOutput.
    """
    with _serving:
        _server()
    command = command if held else [*children.WATCHED, *command]
    stop = time.monotonic() + timeout
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    _children.add(child)
    into, size = file or io.BytesIO(), 0
    try:
        while block := _block(child.stdout, stop, timeout):  # type: ignore[arg-type]
            size += len(block)
            if size > most:
                raise TooMuchOutput(f"it sent more than {most / 1e6:,.1f} MB: {shown(block, 40)}")
            into.write(block)
        try:
            code = child.wait(max(0.0, stop - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"timed out after {timeout:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        _children.discard(child)
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
    return code, into.getvalue() if isinstance(into, io.BytesIO) else b""


def _block(pipe: IO[bytes], stop: float, timeout: float) -> bytes:
    left = stop - time.monotonic()
    if left <= 0 or not select.select([pipe], [], [], left)[0]:
        raise TimeoutError(f"timed out after {timeout:.0f} s")
    return os.read(pipe.fileno(), BLOCK)


def _server() -> None:
    """Start adb's own server first, so that it does not inherit a pipe of this process."""
    if shutil.which("adb") is None:
        next = "install it (Debian: sudo apt install adb; or Android's platform-tools)"
        raise Missing("phones are reached through adb", "there is no adb on the PATH", next)
    quiet = subprocess.DEVNULL
    command = ["adb", "start-server"]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=30)


_open: dict[str, Phone] = {}
_guard = threading.Lock()
_opening: dict[str, threading.Lock] = {}


def phone(name: str, serial: str) -> Phone:
    """The connected device of a serial number, one per process; reconnected if its connection was lost."""
    with _guard:
        opening = _opening.setdefault(serial, threading.Lock())
    with opening:
        if serial not in _open:
            _open[serial] = Phone(name, serial)
        phone = _open[serial]
        if phone.disconnected:
            with phone.busy:
                phone.open()
        return phone


@atexit.register
def close_all() -> None:
    """End every adb child process, and with it the remote processes."""
    for child in list(_children):
        child.kill()
    for phone in _open.values():
        phone.close()
    _open.clear()
