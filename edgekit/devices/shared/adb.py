"""One device through the system's `adb`: its server, its keys, USB or network alike.

A device gets scripts for its own shell, whichever it is (toybox, busybox), and archives. No name that a user wrote is
part of a script, but a deployment's folder, quoted (`_pushed`): files are called by their sha256, jobs by a number.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import io
import logging
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgekit.core.errors import DeviceError, EdgekitError, Missing, os_errors
from edgekit.devices.shared import facts
from edgekit.devices.shared.facts import END, START, Facts

#: the one place where every Android lets the shell's user write and execute, and what edgekit keeps there
HOME = "/data/local/tmp"
ROOT = f"{HOME}/.edgekit"
#: seconds for a short script, and for a connection over the network
SHELL_SECONDS, CONNECT_SECONDS = 60.0, 15.0
#: bytes per second that a slow cable moves at the least
SLOW = 1e6
EXIT = re.compile(rb"\n?== exit (\d+)\r?\n?$")

#: everything is read; a section that a system does not have is empty
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

#: runs a job until it ends, or until the connection does; what it prints comes as it is printed
RUN = """cd {folder} || exit 1
exec 3<&0
OMP_NUM_THREADS={threads} {runner} job.json out/result.json </dev/null 2>&1 & job=$!
{{ read line <&3; kill -9 $job; }} >/dev/null 2>&1 & keeper=$!
wait $job; code=$?
kill -9 $keeper 2>/dev/null
exit $code"""

log = logging.getLogger("edgekit")


def getprop(text: str) -> dict[str, str]:
    """`[ro.product.model]: [Pixel 7]`, a line each → name → value; {} where there is no getprop."""
    return dict(re.findall(r"^\[([\w.-]+)\]: \[(.*)\]\r?$", text, re.MULTILINE))


def phone_facts(found: Mapping[str, str]) -> Facts:
    """All that the sections tell; the model and the system are Android's properties where it has them."""
    properties = getprop(found.get("getprop", ""))
    model = " ".join(filter(None, (properties.get(f"ro.product.{name}", "") for name in ("manufacturer", "model"))))
    sections = {name: text.replace("\r", "") for name, text in found.items()} | {"model": model}
    loader = re.search(r"GLIBC.*version (\d+\.\d+)", sections.get("libc", ""))
    sections["libc"] = f"glibc {loader[1]}" if loader else ""
    if release := properties.get("ro.build.version.release", ""):
        api = properties.get("ro.build.version.sdk", "?")
        sections["release"] = f'PRETTY_NAME="Android {release} (API {api})"'
    return facts.read(sections)


def connect(serial: str) -> str:
    """Reach a device at host:port; "" or what adb says against it. One on a cable needs none of this."""
    if ":" not in serial:
        return ""
    said = adb(["connect", serial], CONNECT_SECONDS)[1]
    return "" if re.search(r"^(already )?connected to", said, re.MULTILINE) else said.strip() or "it does not answer"


def _state(serial: str) -> tuple[str, str]:
    """(what adb says against a device, the state it is in: `device` where it answers)."""
    said = connect(serial)
    return said, adb(["-s", serial, "get-state"], CONNECT_SECONDS)[1].strip()


def is_up(port: int) -> bool:
    """Does the adbd behind a port of this machine answer?"""
    serial = f"127.0.0.1:{port}"
    try:
        return _state(serial) == ("", "device")
    except DeviceError:
        return False


def adb(words: Sequence[str], timeout: float) -> tuple[int, str]:
    """(exit code, what it printed) of one adb command. Raises Missing, DeviceError."""
    try:
        code, said = _communicated(["adb", *words], timeout)
    except TimeoutError as error:
        return -9, str(error)
    return code, said.decode("utf-8", "replace")


def late(what: str, seconds: float) -> DeviceError:
    why = f"no result after {seconds:g} s; it was stopped"
    return DeviceError(f"{what} took too long", why, "allow more time with --set plan.timeout=SECONDS")


class Phone:
    """A device that answers, for as long as edgekit works with it. Every method raises DeviceError."""

    def __init__(self, name: str, serial: str) -> None:
        self.name, self.serial = name, serial
        self.busy = threading.RLock()
        self.present: set[str] = set()
        self.sent_bytes = 0
        self.locked: IO[str] | None = None
        self.cut = False
        self.open()

    def open(self) -> None:
        """Reach it, and read what it is; again after its connection was cut."""
        said, state = _state(self.serial)
        if "offline" in state and ":" in self.serial:  # adb holds on to a connection that broke
            adb(["disconnect", self.serial], CONNECT_SECONDS)
            said, state = _state(self.serial)
        if state != "device":
            raise refusal(said or state, self.name, self.serial)
        self.present.clear()
        _, text = self.shell(FACTS)
        self.facts = phone_facts(facts.sections(text))
        self.cut = False
        if self.locked:
            self.shell(f"rm -rf {ROOT}/jobs/*")  # of the job that was cut off

    @contextmanager
    def working(self) -> Iterator[None]:
        """Nobody else works with it meanwhile; reached anew where its connection was cut while this waited."""
        with self.busy:
            if self.cut:
                self.open()
            self.lock()
            yield

    def shell(self, script: str, timeout: float = SHELL_SECONDS, what: str = "") -> tuple[int, str]:
        """A script's exit code and output; the code comes in the output, since old devices' adbd gives none."""
        command = ["adb", "-s", self.serial, "shell", f'(\n{script}\n); code=$?; echo; echo "== exit $code"']
        try:
            code, said = _communicated(command, timeout, held=True)
        except TimeoutError as error:
            raise late(what or f"a command on {self.name}", timeout) from error
        found = EXIT.search(said)
        text = (said[: found.start()] if found else said).decode("utf-8", "replace")
        if not found:
            raise self._gone(text or f"adb ended with exit code {code}")
        for line in text.splitlines():
            log.debug("%s: %s", self.name, line)
        return int(found[1]), text

    def checked(self, script: str, timeout: float = SHELL_SECONDS) -> str:
        """The output of a script that must work."""
        code, text = self.shell(script, timeout)
        if code != 0:
            raise self._refused(text)
        return text

    def send(self, files: Mapping[str, Path], extra: Mapping[str, bytes]) -> None:
        """Put files (sha256 → where they lie here) there, those that are not there yet, and `extra` (path → content),
        as one archive; each file's sha256 is then taken there."""
        new = {sha: path for sha, path in files.items() if sha not in self.present}
        there = self._whole(new) if new else set()
        wanted = {sha: path for sha, path in new.items() if sha not in there}
        size = sum(path.stat().st_size for path in wanted.values())
        free = self.free()
        if free is not None and 2 * size > free:  # the archive, and what comes out of it
            why = f"{2 * size / 1e6:,.1f} MB are needed, and {free / 1e6:,.1f} MB are free"
            raise self._full(why)
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            archive = Path(folder) / "sent.tar"
            with os_errors("write", archive):
                _packed(archive, {f"files/{sha}": path for sha, path in wanted.items()}, extra)
            self.checked(f"mkdir -p {ROOT}/files {ROOT}/jobs")
            words = ["-s", self.serial, "push", str(archive), f"{ROOT}/sent.tar"]
            code, said = adb(words, SHELL_SECONDS + archive.stat().st_size / SLOW)
            if code != 0:
                self.shell(f"rm -f {ROOT}/sent.tar")
                raise self._gone(said)
        unpacked = f"cd {ROOT} && tar -xf sent.tar; code=$?; rm -f sent.tar; exit $code"
        self.checked(unpacked, SHELL_SECONDS + size / SLOW)
        if damaged := set(wanted) - self._whole(wanted):
            self.shell(f"cd {ROOT}/files && rm -f {' '.join(sorted(damaged))}")
            what = f"a file came to {self.name} damaged"
            raise DeviceError(what, "what arrived has another sha256", "run it again; is its storage failing?")
        self.sent_bytes += size
        self.present |= set(new)

    def ended(self, code: int, said: str, what: str, limit: float) -> None:
        """Raises DeviceError for a runner that ended otherwise than well."""
        if code == 128 + signal.SIGALRM:
            raise late(what, limit)
        if code:
            raise DeviceError(f"{what} failed", self._why(code, said), "see log.txt in the run folder")

    def _why(self, code: int, said: str) -> str:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if code == 128 + signal.SIGKILL:
            memory = f"it has {self.facts.memory_bytes >> 20} MB"
            return f"the process was killed, most likely for want of memory: {memory}"
        full = next((line for line in lines if "No space left on device" in line), "")
        if full or code == 128 + signal.SIGBUS:
            return f"its storage is full: {full or 'a file could not grow'}"
        if code == 128 + signal.SIGILL:
            return f"the runtime's library has instructions that its processor ({self.facts.cpu}) lacks"
        if 128 < code < 128 + signal.NSIG and code - 128 in set(signal.Signals):
            return f"the process died of {signal.Signals(code - 128).name}" + (f": {lines[-1]}" if lines else "")
        return f"it ended with exit code {code}" + (f": {lines[-1][:300]}" if lines else "")

    def pull(self, there: str, here: Path) -> None:
        """A file to a path, or every file of a folder (`FOLDER/.`) into a folder that is there."""
        code, said = adb(["-s", self.serial, "pull", there, str(here)], 600.0)
        if code != 0:
            raise self._gone(said)

    def free(self) -> int | None:
        """Bytes that may still be written there."""
        return facts.free_bytes(self.shell("df -Pk /data/local/tmp 2>/dev/null || df -k /data/local/tmp")[1])

    def lock(self) -> None:
        """Keep other edgekits of this machine from measuring there."""
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
            raise DeviceError(f"{self.name} is busy", "another edgekit measures there", next) from error
        self.locked = file
        self.shell(f"rm -rf {ROOT}/jobs/*")  # left by one that was cut off

    def close(self) -> None:
        if self.locked:
            self.locked.close()
            self.locked = None

    def _whole(self, files: Mapping[str, Path]) -> set[str]:
        """Those that are there with the sha256 that they are called by."""
        if not files:
            return set()
        size = sum(path.stat().st_size for path in files.values())
        names = " ".join(sorted(files))
        _, said = self.shell(
            f"cd {ROOT}/files 2>/dev/null && sha256sum {names} 2>/dev/null", SHELL_SECONDS + size / SLOW
        )
        lines = (line.split() for line in said.splitlines())
        return {words[1] for words in lines if len(words) == 2 and words[0] == words[1]} & set(files)

    def _gone(self, said: str) -> EdgekitError:
        """The error for a device that had answered: it is to be opened again."""
        self.cut = True
        return refusal(said, self.name, self.serial, opened=True)

    def _refused(self, said: str) -> EdgekitError:
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "without a word")
        if "No space left on device" in said:
            return self._full(last)
        return DeviceError(f"{self.name} refused", last[:300], f"edgekit targets check {self.name}")

    def _full(self, why: str) -> DeviceError:
        next = f"free some space: edgekit targets clean {self.name}"
        return DeviceError(f"the storage of {self.name} is full", why, next)


def _packed(archive: Path, files: Mapping[str, Path], extra: Mapping[str, bytes]) -> None:
    """A plain old archive, which every tar can read."""
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


#: (what adb prints, what happened, what to do), the most telling first
_MEANINGS = (
    (
        r"unauthorized|failed to authenticate",
        "{name} has not let this computer in",
        "unlock it and allow USB debugging on its screen",
    ),
    (
        r"no permissions|insufficient permissions",
        "adb may not use {name}'s cable",
        "a udev rule: apt install adb has one",
    ),
    (r"more than one device", "adb sees several devices", "name one: adb devices -l shows them"),
    (r"No space left on device", "the storage of {name} is full", "edgekit targets clean {name}"),
    (
        r"offline|authorizing|still connecting",
        "{name} is connected, and does not answer",
        "plug it in again, or: adb reconnect offline",
    ),
    (
        r"not found|no devices|failed to connect|Connection refused|cannot connect|does not answer|timed out",
        "adb does not see {name} ({serial})",
        "is USB debugging on, and the cable in? adb devices -l shows what it sees",
    ),
)


def refusal(said: str, name: str, serial: str, *, opened: bool = False) -> EdgekitError:
    """The error for what adb printed; `opened`: the device had answered before."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "it ended without a word"
    for pattern, what, next in _MEANINGS:
        if re.search(pattern, said):
            return DeviceError(what.format(name=name, serial=serial), last, next.format(name=name))
    if opened:
        then = "is it on, and was it restarted? run the same command again: what was finished is kept"
        return DeviceError(f"the connection to {name} was cut", last, then)
    return DeviceError(f"cannot talk to {name} ({serial})", last, "try: adb devices -l")


_children: set[subprocess.Popen[bytes]] = set()
_serving = threading.Lock()


def _communicated(command: Sequence[str], timeout: float, held: bool = False) -> tuple[int, bytes]:
    """(exit code, output) of a child; its input stays open where `held`, so that what runs there ends with it."""
    with _serving:
        _server()
    source = subprocess.PIPE if held else subprocess.DEVNULL
    child = subprocess.Popen(
        command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    _children.add(child)
    ended: list[bool] = []

    def end() -> None:
        ended.append(True)
        child.kill()

    timer = threading.Timer(timeout, end)
    timer.start()
    try:
        said = child.stdout.read()  # type: ignore[union-attr]
        code = child.wait()
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        _children.discard(child)
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
    if ended:
        raise TimeoutError(f"timed out after {timeout:.0f} s")
    return code, said


def _server() -> None:
    """adb's own server, which must not hold on to a pipe of ours."""
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
    """The open device of a serial number: there is one per process, opened again where its connection was cut."""
    with _guard:
        opening = _opening.setdefault(serial, threading.Lock())
    with opening:
        if serial not in _open:
            _open[serial] = Phone(name, serial)
        found = _open[serial]
        if found.cut:
            with found.busy:
                found.open()
        return found


@atexit.register
def close_all() -> None:
    """End every adb of ours, and with it whatever runs on a device."""
    for child in list(_children):
        child.kill()
    for found in _open.values():
        found.close()
    _open.clear()
