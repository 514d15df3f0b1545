"""Emulated boards that run: one `qemu-system-aarch64` per board and process, ended with whoever started it.

Every board counts instructions (`-icount`): its clock goes on by a nanosecond per instruction, so what a program there
measures as time is a number of instructions. Its disk is kept between starts.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgekit.core.errors import DeviceError, InputError, os_errors
from edgekit.core.target import Target
from edgekit.devices.shared.initramfs import FILE, FOLDER, archive
from edgekit.devices.shared.system_image import SOURCE, Image, cache, check_tools, image

#: seconds for a start; about ten where nothing else runs here
BOOT_SECONDS = 300.0
#: MB below which Debian does not come up
LEAST_MB = 128
#: what a phone needs beside (see `_image.TOOLS`)
PHONE_TOOLS = (("adb", "adb"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"))
#: ports that adb takes for emulators of its own
ADB_SCANS = range(5554, 5586)
#: runs qemu until it ends, or until its own standard input does: the end of whoever started it, however that came
KEEPER = """exec 3<&0; "$@" </dev/null & board=$!
{ read line <&3; kill -9 $board; } 2>/dev/null & wait $board"""


class Board:
    """One that is up. `port` on this machine leads to its sshd or adbd; `config` is what ssh needs to reach it."""

    def __init__(self, target: Target) -> None:
        self.name, self.system = target.name, target.system or "pi"
        _check(target)
        if self.system == "phone":
            check_tools(*PHONE_TOOLS)
        made = image(self.system)
        self.folder = cache() / "machines" / target.name
        with os_errors("write", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        self._alone()
        _keys(self.folder)
        self._disk(made)
        self.port = _free_port()
        (self.folder / "initrd").write_bytes(_initrd(made, self.folder))
        _config(self.folder)
        with (self.folder / "console.txt").open("wb") as console:
            command = ["sh", "-c", KEEPER, "sh", *_command(target, made, self.folder, self.port)]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=console, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def address(self) -> str:
        return f"pi@127.0.0.1:{self.port}"

    def wait(self, up: Callable[[int], bool]) -> None:
        """Until `up(port)`. Raises DeviceError where it does not come up."""
        stop = time.monotonic() + BOOT_SECONDS
        while not up(self.port):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > stop:
                why = f"qemu ended: {self._said()}" if ended else f"it was not up after {BOOT_SECONDS:.0f} s"
                self.stop()
                next = f"see {self.folder / 'console.txt'}; edgekit targets clean {self.name} makes it anew"
                raise DeviceError(f"{self.name} did not start", why, next)
            time.sleep(0.1)

    def stop(self) -> None:
        """At once, as when the power fails: its file system is written in order."""
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(self.process.pid, 9)
            self.process.wait()
        self._lock.close()

    def _alone(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            next = "wait until it has finished, or copy its target file under another name"
            raise DeviceError(f"{self.name} is busy", "another edgekit has started it", next) from error

    def _disk(self, made: Image) -> None:
        """Its own copy, made once."""
        disk = self.folder / "disk.img"
        if not disk.is_file():
            part = disk.with_suffix(".part")
            command = ["cp", "--sparse=always", "--reflink=auto", str(made.disk), str(part)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                part.unlink(missing_ok=True)
                raise DeviceError(f"the disk of {self.name} could not be made", done.stderr.strip()[:200])
            part.rename(disk)

    def _said(self) -> str:
        text = (self.folder / "console.txt").read_text(errors="replace").strip()
        return text.splitlines()[-1][:200] if text else "without a word"


def _check(target: Target) -> None:
    """Raises InputError where the target does not say what to emulate."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", target.cpu) or target.cpu in ("max", "host"):
        why = f"its cpu is {target.cpu!r}: a model of qemu's, such as cortex-a72, and not max, which computes wrongly"
        raise InputError(f"{target.name} cannot be emulated", why, "set cpu in its file")
    if target.memory_mb < LEAST_MB:
        why = f"its memory_mb is {target.memory_mb}; Debian needs {LEAST_MB}"
        raise InputError(f"{target.name} cannot be emulated", why, "set memory_mb in its file")


def _command(target: Target, made: Image, folder: Path, port: int) -> list[str]:
    inside = 5555 if target.system == "phone" else 22
    return [
        *("qemu-system-aarch64", "-M", "virt", "-cpu", target.cpu, "-smp", "1", "-m", str(target.memory_mb)),
        *("-icount", "shift=0", "-nographic", "-no-reboot", "-kernel", str(made.kernel)),
        *("-initrd", str(folder / "initrd")),
        *("-append", f"console=ttyAMA0 rdinit=/init norandmaps quiet panic=-1 edgekit.now={int(time.time())}"),
        # restrict: it reaches nothing, neither this machine nor the network
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{inside}"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-drive", f"file={folder / 'disk.img'},format=raw,if=none,id=disk,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=disk"),
    ]


def _initrd(made: Image, folder: Path) -> bytes:
    """The drivers, and what is this board's own: its host key and whom it lets in."""
    own = {"host_key": 0o600, "authorized_keys": 0o644, "sshd_config": 0o644}
    entries = [(name, FOLDER | 0o755, b"") for name in ("dev", "modules", "own", "own/etc", "own/etc/edgekit")]
    entries += [
        ("init", FILE | 0o755, (SOURCE / "init").read_bytes()),
        ("busybox", FILE | 0o755, made.busybox.read_bytes()),
    ]
    entries += [(f"modules/{path.name}", FILE | 0o644, path.read_bytes()) for path in made.modules]
    for name, mode in own.items():
        source = SOURCE if name == "sshd_config" else folder
        entries.append((f"own/etc/edgekit/{name}", FILE | mode, (source / name).read_bytes()))
    return archive(entries)


def _keys(folder: Path) -> None:
    """A host key and a client's, of this board alone."""
    for name in ("host_key", "client_key"):
        if not (folder / f"{name}.pub").is_file():
            (folder / name).unlink(missing_ok=True)
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgekit", "-f", str(folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    shutil.copyfile(folder / "client_key.pub", folder / "authorized_keys")


def _config(folder: Path) -> None:
    """How ssh gets there: with this board's key, to a host that shows this board's host key and no other."""
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"board {kind} {key}\n")
    quoted = {name: f'"{folder / name}"' for name in ("client_key", "known_hosts")}
    (folder / "ssh_config").write_text(
        f"Host *\n    HostKeyAlias board\n    IdentitiesOnly yes\n    IdentityFile {quoted['client_key']}\n"
        f"    UserKnownHostsFile {quoted['known_hosts']}\n    GlobalKnownHostsFile /dev/null\n"
    )


def _free_port() -> int:
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        if port not in ADB_SCANS:
            return port


def ssh_is_up(port: int) -> bool:
    """Does a server greet? qemu itself takes every call."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        return client.recv(4) == b"SSH-"
    return False


_running: dict[str, Board] = {}
_guard = threading.Lock()
_starting: dict[str, threading.Lock] = {}


def board(target: Target, up: Callable[[int], bool]) -> Board:
    """The board of a target, started where it is not: there is one per target and process."""
    with _guard:
        starting = _starting.setdefault(target.name, threading.Lock())
    with starting:
        found = _running.get(target.name)
        if found is not None and found.process.poll() is None:
            return found
        stop(target.name)  # one that rebooted, or died: its lock goes with it
        made = _running[target.name] = Board(target)
        made.wait(up)
        return made


def stop(name: str) -> None:
    found = _running.pop(name, None)
    if found is not None:
        found.stop()


def clean(name: str) -> dict[str, object]:
    """Remove a board's disk and keys, and the images where it was the last."""
    stop(name)
    folder = cache() / "machines" / name
    machines = [path for path in folder.parent.iterdir() if path != folder] if folder.parent.is_dir() else []
    gone = [folder] + ([cache() / "images"] if not machines else [])
    size = sum(path.stat().st_blocks * 512 for root in gone for path in root.rglob("*") if path.is_file())
    for root in gone:
        shutil.rmtree(root, ignore_errors=True)
    return {"bytes": size, "root": str(folder)}


@atexit.register
def stop_all() -> None:
    for name in list(_running):
        stop(name)
