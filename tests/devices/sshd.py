"""A device that is this machine: a real sshd on a free loopback port, with keys, configuration and cache of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgekit.core.target import Target
from edgekit.devices.shared import ssh
from edgekit.measure import targets

SERVER = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
RUNTIMES = {"onnxruntime": ">=1.20"}


@dataclass
class Board:
    """`bin` comes first on the device's PATH, so that a test can put its own `df` there; `cache` is its ~/.cache.

    At the port `twin` a second device seems to be: one that keeps its files elsewhere.
    """

    folder: Path
    port: int = 0
    twin: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def address(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def target(self, **fields: object) -> Target:
        host = targets.load("host")
        here = {"arch": host.arch, "isa": host.isa, "cores": host.cores, "runtimes": RUNTIMES}
        board = Target("board", "a board", "ssh", address=self.address)
        return replace(board, **{**here, **fields})  # type: ignore[arg-type]

    def shim(self, name: str, text: str) -> None:
        """A command of the device's own."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(SERVER), "-D", "-e", "-f", str(self.folder / "sshd_config")],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "sshd.log").open("ab"),
            start_new_session=True,
        )
        stop = time.monotonic() + 20
        while time.monotonic() < stop:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                    if client.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        """The server goes, and every connection with it, as when the power fails."""
        if self.process:
            for pid in _descendants(self.process.pid):
                _kill(pid)
            self.process.wait(10)
            self.process = None


def _descendants(pid: int) -> list[int]:
    """The process and what it started, the process first: sshd's children have sessions of their own."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(word) for word in path.read_text().split()]
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def _board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    if SERVER is None or shutil.which("ssh") is None:
        why = "no OpenSSH here: apt-get install openssh-server openssh-client"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    board = Board(tmp_path_factory.mktemp("board"))
    _write(board)
    board.start()
    yield board
    board.stop()


@pytest.fixture
def board(_board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """The device, known to ssh; what it keeps stays from test to test, its own commands do not."""
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(_board.config))
    if _board.process is None:
        _board.start()
    yield _board
    ssh.close_all()
    for path in _board.bin.iterdir():
        path.unlink()
    _python(_board)
    (_board.home / ".bashrc").unlink(missing_ok=True)


def _python(board: Board) -> None:
    # a script, not a link: a virtual environment is known by where its Python is
    board.shim("python3", f'exec "{sys.executable}" "$@"')


def _write(board: Board) -> None:
    folder = board.folder
    board.bin.mkdir()
    _python(board)
    for name in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        board.port, board.twin = one.getsockname()[1], other.getsockname()[1]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    path = f"PATH={board.bin}:/usr/local/bin:/usr/bin:/bin"
    key = (folder / "host_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(
        "".join(f"[127.0.0.1]:{port} {' '.join(key)}\n" for port in (board.port, board.twin))
    )
    (folder / "sshd_config").write_text(f"""
Port {board.port}
Port {board.twin}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 50
PrintMotd no
SetEnv HOME={board.home} XDG_CACHE_HOME={board.cache} {path}
Match LocalPort {board.twin}
    SetEnv HOME={board.home} XDG_CACHE_HOME={folder}/twin {path}
""")
    board.home.mkdir()
    board.config.write_text(f"""
Host *
    IdentityFile {folder}/client_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
Host alias
    HostName 127.0.0.1
    Port {board.port}
Host twin
    HostName 127.0.0.1
    Port {board.twin}
""")
