"""A PostgreSQL server for tests, from Debian's package `postgresql`, in a temporary folder on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

#: of the newest version that is installed
PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PASSWORD = "hush/hush"


class Server:
    """`url`: of the database `postgres`, for its superuser, who has a password."""

    def __init__(self) -> None:
        assert PROGRAMS is not None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.log = self.folder.with_suffix(".log")
        self.user = ["setpriv", "--pdeathsig=INT"]  # it ends with the tests
        if os.getuid() == 0:  # which PostgreSQL refuses
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.user += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = self.url_of("boss", "hush%2Fhush")
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        words = ("--username=boss", f"--pwfile={secret}", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8")
        made = self._popen("initdb", "--pgdata", self.folder / "data", *words).wait()
        assert made == 0, self.log.read_text()
        self.start()

    def url_of(self, user: str, password: str, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def _popen(self, program: str, *words: object) -> subprocess.Popen[bytes]:
        line = [*self.user, str(PROGRAMS / program), *map(str, words)]  # type: ignore[operator]
        with self.log.open("ab") as file:
            return subprocess.Popen(line, cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def start(self) -> None:
        options = ("-p", self.port, "-k", self.folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
        self.process = self._popen("postgres", "-D", self.folder / "data", *options)
        ready = ("-q", "-h", "127.0.0.1", "-p", self.port)
        deadline = time.monotonic() + 60
        while self._popen("pg_isready", *ready).wait():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """At once, as in a crash."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=60)

    def execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
        self.log.unlink()
