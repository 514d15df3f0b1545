"""Running emulated boards: one `qemu-system-aarch64` per board and process, which ends with the process.

Every board counts instructions (`-icount`): its clock advances by one nanosecond per instruction, so a time measured on
the board is a number of instructions. Its disk is kept between starts.
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

from edgekit.core import children
from edgekit.core.errors import DeviceError, InputError, os_errors
from edgekit.core.target import Target
from edgekit.devices.shared.initramfs import FILE, FOLDER, archive
from edgekit.devices.shared.system_image import SOURCE, Image, cache, check_tools, image

#: time-out of a start in seconds; on an idle machine a start takes about ten
BOOT_SECONDS = 300.0
#: minimum memory in MB: Debian does not start with less
MIN_MEMORY_MB = 128
#: programs that a phone needs in addition to `system_image.TOOLS`
PHONE_TOOLS = (("adb", "adb"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"))
#: ports that adb reserves for its own emulators
ADB_SCANS = range(5554, 5586)


class Board:
    """A running board. `port` on this machine is forwarded to its sshd or adbd; `config` is its ssh configuration."""

    def __init__(self, target: Target) -> None:
        self.name, self.system = target.name, target.system or "pi"
        _check(target)
        if self.system == "phone":
            check_tools(*PHONE_TOOLS)
        system_image = image(self.system)
        self.folder = cache() / "machines" / target.name
        with os_errors("write", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        self._alone()
        _keys(self.folder)
        self._disk(system_image)
        self.port = _free_port()
        (self.folder / "initrd").write_bytes(_initrd(system_image, self.folder))
        _config(self.folder)
        with (self.folder / "console.txt").open("wb") as console:
            command = [*children.WATCHED, *_command(target, system_image, self.folder, self.port)]
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
        """Wait until `up(port)`. Raises DeviceError if the board does not start."""
        stop = time.monotonic() + BOOT_SECONDS
        while not up(self.port):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > stop:
                why = f"qemu ended: {self._last_line()}" if ended else f"it was not up after {BOOT_SECONDS:.0f} s"
                self.stop()
                next = f"see {self.folder / 'console.txt'}; edgekit targets clean {self.name} resets it"
                raise DeviceError(f"{self.name} did not start", why, next)
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop at once, as in a power failure; the file system is journaled."""
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
            raise DeviceError(f"{self.name} is busy", "another edgekit process is running it", next) from error

    def _disk(self, system_image: Image) -> None:
        """Copy the image's disk for this board, once."""
        disk = self.folder / "disk.img"
        if not disk.is_file():
            part = disk.with_suffix(".part")
            command = ["cp", "--sparse=always", "--reflink=auto", str(system_image.disk), str(part)]
            done = children.run(command, text=True)
            if done.returncode != 0:
                part.unlink(missing_ok=True)
                raise DeviceError(f"the disk of {self.name} cannot be created", done.stderr.strip()[:200])
            part.rename(disk)

    def _last_line(self) -> str:
        text = (self.folder / "console.txt").read_text(errors="replace").strip()
        return text.splitlines()[-1][:200] if text else "no message"


def _check(target: Target) -> None:
    """Raises InputError if the target's cpu or memory cannot be emulated."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", target.cpu) or target.cpu in ("max", "host"):
        why = f"its cpu is {target.cpu!r}, not a supported model of qemu (max computes wrong results)"
        raise InputError(f"{target.name} cannot be emulated", why, "set cpu in its file, for example to cortex-a72")
    if target.memory_mb < MIN_MEMORY_MB:
        why = f"its memory_mb is {target.memory_mb}; Debian needs {MIN_MEMORY_MB}"
        raise InputError(f"{target.name} cannot be emulated", why, "set memory_mb in its file")


def _command(target: Target, system_image: Image, folder: Path, port: int) -> list[str]:
    guest_port = 5555 if target.system == "phone" else 22
    return [
        *("qemu-system-aarch64", "-M", "virt", "-cpu", target.cpu, "-smp", "1", "-m", str(target.memory_mb)),
        *("-icount", "shift=0", "-nographic", "-no-reboot", "-kernel", str(system_image.kernel)),
        *("-initrd", str(folder / "initrd")),
        *("-append", f"console=ttyAMA0 rdinit=/init norandmaps quiet panic=-1 edgekit.now={int(time.time())}"),
        # restrict: the board can reach neither this machine nor the network
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{guest_port}"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-drive", f"file={folder / 'disk.img'},format=raw,if=none,id=disk,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=disk"),
    ]


def _initrd(system_image: Image, folder: Path) -> bytes:
    """The drivers, and the board's own files: its host key, authorized keys and sshd configuration."""
    own = {"host_key": 0o600, "authorized_keys": 0o644, "sshd_config": 0o644}
    entries = [(name, FOLDER | 0o755, b"") for name in ("dev", "modules", "own", "own/etc", "own/etc/edgekit")]
    entries += [
        ("init", FILE | 0o755, (SOURCE / "init").read_bytes()),
        ("busybox", FILE | 0o755, system_image.busybox.read_bytes()),
    ]
    entries += [(f"modules/{path.name}", FILE | 0o644, path.read_bytes()) for path in system_image.modules]
    for name, mode in own.items():
        source = SOURCE if name == "sshd_config" else folder
        entries.append((f"own/etc/edgekit/{name}", FILE | mode, (source / name).read_bytes()))
    return archive(entries)


def _keys(folder: Path) -> None:
    """Create a host key and a client key for this board only."""
    for name in ("host_key", "client_key"):
        if not (folder / f"{name}.pub").is_file():
            (folder / name).unlink(missing_ok=True)
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgekit", "-f", str(folder / name)]
            children.run(command, check=True)
    shutil.copyfile(folder / "client_key.pub", folder / "authorized_keys")


def _config(folder: Path) -> None:
    """Write the ssh configuration: it uses this board's client key and accepts only this board's host key."""
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
    """Does an ssh server answer? qemu itself accepts every connection, so the greeting is checked."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        return client.recv(4) == b"SSH-"
    return False


_running: dict[str, Board] = {}
_guard = threading.Lock()
_starting: dict[str, threading.Lock] = {}


def board(target: Target, up: Callable[[int], bool]) -> Board:
    """The running board of a target, one per target and process; started if needed."""
    with _guard:
        starting = _starting.setdefault(target.name, threading.Lock())
    with starting:
        running = _running.get(target.name)
        if running is not None and running.process.poll() is None:
            return running
        stop(target.name)  # a board that rebooted or died: this releases its lock
        started = _running[target.name] = Board(target)
        started.wait(up)
        return started


def stop(name: str) -> None:
    running = _running.pop(name, None)
    if running is not None:
        running.stop()


def clean(name: str) -> dict[str, object]:
    """Remove a board's disk and keys, and the images if it was the last board."""
    stop(name)
    folder = cache() / "machines" / name
    machines = [path for path in folder.parent.iterdir() if path != folder] if folder.parent.is_dir() else []
    removed = [folder] + ([cache() / "images"] if not machines else [])
    size = sum(path.stat().st_blocks * 512 for root in removed for path in root.rglob("*") if path.is_file())
    for root in removed:
        shutil.rmtree(root, ignore_errors=True)
    return {"bytes": size, "root": str(folder)}


@atexit.register
def stop_all() -> None:
    for name in list(_running):
        stop(name)
