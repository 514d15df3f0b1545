"""A PostgreSQL server for tests, from Debian's package `postgresql`, in a temporary folder on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

#: of the newest version that is installed
PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PASSWORD = "hush/hush"


class Server:
    """`url`: of the database `postgres`, for its superuser, who has a password."""

    def __init__(self) -> None:
        assert PROGRAMS is not None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.user = []
        if os.getuid() == 0:  # which PostgreSQL refuses
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = self.url_of("boss", "hush%2Fhush")
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        words = ("--username=boss", f"--pwfile={secret}", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8")
        self._run("initdb", "--pgdata", self.folder / "data", *words)
        self.start()

    def url_of(self, user: str, password: str, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *words: object) -> None:
        line = [*self.user, str(PROGRAMS / program), *map(str, words)]  # type: ignore[operator]
        log = self.folder.with_suffix(".log")
        with log.open("ab") as file:  # not a pipe: the server keeps it open
            code = subprocess.run(line, cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file).returncode
        assert code == 0, log.read_text()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "--wait", "--pgdata", self.folder / "data", "-o", options)

    def stop(self) -> None:
        """At once, as in a crash."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--pgdata", self.folder / "data")

    def execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
        self.folder.with_suffix(".log").unlink()
