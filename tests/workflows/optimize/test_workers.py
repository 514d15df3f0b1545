"""Workers that share a storage, as processes: on SQLite, and on a PostgreSQL server that the tests start."""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ONE_THREAD, TESTS, start, trust
from workflows.optimize.postgresql import PROGRAMS, Server
from workflows.optimize.test_search import QUICK, STEADY

pytest.importorskip("optuna")
from edgekit.core.errors import InputError
from edgekit.workflows.optimize import claims
from edgekit.workflows.optimize.storage import Storage

#: every point of the made-up space
ALL = 32


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    pytest.importorskip("psycopg")
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    name = "".join(c for c in request.node.name if c.isalnum())
    server.execute(f"CREATE DATABASE {name}")
    return server.url_of("boss", "hush%2Fhush", name)


def workers(url: str, count: int, wanted: int, grace_s: float, log: Path) -> subprocess.Popen[str]:
    words = [sys.executable, TESTS / "workflows/optimize/workers.py", url, count, wanted, grace_s, log]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, words)), env=environment, **pipes)


def begun(log: Path) -> list[tuple[str, str]]:
    """(worker, point) of every trial that was begun."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def wait_until(log: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(begun(log)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_each_once(log: Path, wanted: int) -> None:
    points = [point for _, point in begun(log)]
    assert len(points) == len(set(points)) == wanted


@pytest.mark.slow
def test_twenty_open_an_empty_postgresql_at_once(url: str, tmp_path: Path) -> None:
    process = workers(url, 20, 24, 60, tmp_path / "log")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert_each_once(tmp_path / "log", 24)


@pytest.mark.slow
def test_twenty_open_an_empty_sqlite_file_at_once(tmp_path: Path) -> None:
    process = workers(f"sqlite:///{tmp_path / 's.db'}", 20, 24, 60, tmp_path / "log")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert_each_once(tmp_path / "log", 24)


@pytest.mark.slow
def test_a_killed_workers_point_is_tried_by_another(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = workers(url, 3, ALL, 2, log)
    assert process.stdout is not None
    victim = int(process.stdout.readline())
    wait_until(log, 6)
    while True:  # in a trial: stopped, its last point is not stored yet
        os.kill(victim, signal.SIGSTOP)
        point = [point for worker, point in begun(log) if worker == "0"][-1]
        if point in claimed(url):
            break
        os.kill(victim, signal.SIGCONT)
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1 and not err, "only the killed one failed"
    times = collections.Counter(point for _, point in begun(log))
    assert len(times) == ALL and times.pop(point) == 2 and set(times.values()) == {1}
    assert not claimed(url)


def claimed(url: str) -> list[str]:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT point FROM edgekit_claims").fetchall()
    return [json.dumps(json.loads(row[0]), sort_keys=True) for row in rows]


@pytest.mark.slow
def test_the_server_crashes_and_returns(server: Server, url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = workers(url, 3, ALL, 5, log)
    wait_until(log, 10)
    server.stop()
    time.sleep(1.5)
    server.start()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0 and not err, err
    assert_each_once(log, ALL)


@pytest.mark.slow
def test_a_server_that_refuses(server: Server, url: str) -> None:
    database = url.rpartition("/")[2]
    Storage(url, claims.prepare)
    server.execute(
        "CREATE ROLE reader LOGIN PASSWORD 'hush'",
        "CREATE ROLE stranger LOGIN PASSWORD 'hush'",
        "GRANT pg_read_all_data TO reader",
    )
    why = {
        server.url_of("boss", "hush2", database): "rejects this user or this password",
        server.url_of("nobody", "hush", database): "rejects this user or this password",
        server.url_of("boss", "hush%2Fhush", "hushed"): "no database of this name",
        server.url_of("reader", "hush", database): "may not create tables in it or write to them",
        server.url_of("stranger", "hush"): "may not create tables in it or write to them",
        url.replace(f":{server.port}/", ":1/"): "no database server answers at its host and port",
        url.replace("127.0.0.1", "no-such-host.invalid"): "its host is unknown",
    }
    for bad, expected in why.items():
        with pytest.raises(InputError) as raised:
            Storage(bad, claims.prepare)
        assert expected in raised.value.why, bad
        assert "hush" not in str(raised.value).replace("hushed", "")


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine
def test_two_commands_on_one_server(url: str, bars_run: Path, tmp_path: Path) -> None:
    """Each in its own run folder; together they make the trials that were asked for, and both know them all."""
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "steady.toml").write_text(STEADY)
    trust(tmp_path)
    space = ("runtime=onnxruntime", "precision=float,fp16", "threads=1,2")
    words = ("--target", "steady", "--trials", 4, *QUICK, *(word for d in space for word in ("--try", d)))
    processes, results = [], []
    for name in ("one", "two"):
        shutil.copytree(bars_run, tmp_path / name)
        processes.append(start("optimize", tmp_path / name, *words, "--storage", url, "--json", cwd=tmp_path))
    try:
        for process in processes:
            out, err = process.communicate(timeout=250)
            assert process.returncode == 0, err
            assert "hush" not in out + err
            results.append(json.loads(out)["result"])
    finally:
        for process in processes:
            process.kill()
    tried = [[(t["number"], t["point"], t["run"]) for t in result["trials"]] for result in results]
    assert tried[0] == tried[1] and len(tried[0]) == 4
    assert len({json.dumps(point) for _, point, _ in tried[0]}) == 4
    assert {Path(run).name for _, _, run in tried[0]} == {"one", "two"}
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"hush" not in path.read_bytes(), path
