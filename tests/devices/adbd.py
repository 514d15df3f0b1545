"""A phone that is this machine: Debian's real adbd in namespaces of its own, behind a forwarder that can be cut.

adbd listens on every interface without authentication, so it gets a network namespace; a forwarder takes connections on
a loopback port of this machine to it. Needs root, mmdebstrap and a mirror of Debian 13.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from edgekit.core.target import Target
from edgekit.devices.shared import adb

PACKAGES = "adbd,base-files,dash,bash,coreutils,tar,busybox-static,libc6"
MIRROR = "http://deb.debian.org/debian"
NEW_NET = 0x40000000  # CLONE_NEWNET (linux/sched.h)
PORT = 5555
#: process 1 of the namespaces; the root's own /dev, never this machine's
INIT = f"""
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount -t tmpfs dev "$1/dev"
for node in "null 1 3" "zero 1 5" "urandom 1 9" "tty 5 0"; do
    set -- "$1" $node; mknod -m 666 "$1/dev/$2" c "$3" "$4"
done
mkdir "$1/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
export ADBD_PORT={PORT} HOME=/data/local/tmp SHELL=/bin/sh PATH=/usr/sbin:/usr/bin:/bin
"$1/bin/busybox" ip link set lo up
exec chroot "$1" /usr/lib/android-sdk/platform-tools/adbd
"""


def missing() -> str:
    """What this machine lacks for it, "" if nothing."""
    programs = [name for name in ("mmdebstrap", "unshare", "adb", "cc") if shutil.which(name) is None]
    return f"no {', '.join(programs)}" if programs else "" if os.geteuid() == 0 else "it needs root"


def system(folder: Path) -> Path:
    """A Debian with adbd, downloaded once."""
    root = folder / "root"
    if not root.is_dir():
        part = folder / "root.part"
        shutil.rmtree(part, ignore_errors=True)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={PACKAGES}", "trixie"]
        subprocess.run([*command, str(part), MIRROR], check=True)
        for name in ("data/local/tmp", "proc", "dev", "tmp"):
            (part / name).mkdir(parents=True, exist_ok=True)
        (part / "tmp").chmod(0o1777)
        part.rename(root)
    return root


class Adbd:
    """`home` is the folder that a phone's shell may write to; `port` the one that adb connects to."""

    def __init__(self, folder: Path) -> None:
        self.root = system(folder)
        self.home = self.root / "data" / "local" / "tmp"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._cut = False
        self._start()
        threading.Thread(target=self._serve, daemon=True).start()

    def target(self, name: str) -> Target:
        return Target(name, "", "adb", "x86_64", address=f"127.0.0.1:{self.port}", runtimes={"onnxruntime": ""})

    def cut(self, *, power: bool) -> None:
        """End every connection, and take no more; `power`: every process of the phone, too."""
        self._cut = True
        if power:
            self._process.kill()
            self._process.wait()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        """Take connections again, after the phone has started again if it is off."""
        if self._process.poll() is not None:
            self._start()
        self._cut = False
        stop = time.monotonic() + 20
        while not adb.is_up(self.port):
            assert time.monotonic() < stop, "adbd does not answer"
            adb.adb(["disconnect", f"127.0.0.1:{self.port}"], 5)

    def close(self) -> None:
        self.cut(power=True)
        self._listener.close()

    def _start(self) -> None:
        command = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-ec", INIT, "sh"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen([*command, str(self.root)], stdin=quiet, stdout=quiet, stderr=quiet)
        self._inside = 0
        stop = time.monotonic() + 20
        while not self._connects():
            assert time.monotonic() < stop and self._process.poll() is None, "adbd did not start"
            time.sleep(0.05)

    def _connects(self) -> bool:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._inside = int(children[0]) if children else 0
        with suppress(OSError):
            self._connect().close()
            return bool(self._inside)
        return False

    def _connect(self) -> socket.socket:
        """A connection within the phone's network namespace, which a thread of its own enters."""
        found: list[socket.socket | OSError] = []

        def enter() -> None:
            try:
                with Path(f"/proc/{self._inside}/ns/net").open("rb") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), NEW_NET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                found.append(socket.create_connection(("127.0.0.1", PORT), timeout=5))
            except OSError as error:
                found.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(found[0], OSError):
            raise found[0]
        found[0].settimeout(None)
        return found[0]

    def _serve(self) -> None:
        while True:
            try:
                outer, _ = self._listener.accept()
            except OSError:
                return
            try:
                inner = None if self._cut else self._connect()
            except OSError:
                inner = None
            if inner is None:
                outer.close()
                continue
            self._open += [outer, inner]
            for pair in ((outer, inner), (inner, outer)):
                threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 16):
            to.sendall(block)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def own_server() -> int:
    """Give this process and its children an adb server of their own; its port. End it with `adb kill-server`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    os.environ["ANDROID_ADB_SERVER_PORT"] = str(port)
    return port


def stop_server() -> None:
    subprocess.run(["adb", "kill-server"], capture_output=True, check=False)
