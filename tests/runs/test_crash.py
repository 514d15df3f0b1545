"""Whatever happens to a run from outside, nothing finished is lost and nothing half-made counts."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import BARS, QUICK_PLAN, Ended, hear_hangups, run_cli, start

from edgekit.runs.results import read as read_results
from edgekit.runs.store import RESULTS, Store

PR_CAPBSET_DROP = 24

#: bars, and beside it a chain whose second step takes as long as it is told
SLOW = BARS + '\n[[chain]]\nname = "slow"\nsteps = ["train", "slow_copy"]\n' + QUICK_PLAN


def finished(run: Path) -> dict[str, tuple[str, int]]:
    """Name → id and time of writing, of every artifact that counts; fails where one is not whole."""
    store = Store(run)
    return {name: (store.get(name).id, (run / name / "artifact.json").stat().st_mtime_ns) for name in store.names()}


def killed_and_resumed(folder: Path, moments: list[float]) -> None:
    """Kill a fresh run at each moment (in seconds from its start), then run it again to the end."""
    (folder / "bars.toml").write_text(BARS + QUICK_PLAN)
    for index, moment in enumerate(moments):
        run = folder / f"run{index}"
        process = start("run", "bars.toml", "--out", run, cwd=folder, start_new_session=True)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before = finished(run)
        if (run / RESULTS).is_file():
            read_results(run / RESULTS)
        again = run_cli("run", "bars.toml", "--out", run, "--json", cwd=folder)
        assert again.code == 0, f"killed after {moment:.2f} s: {again.err}"
        after = finished(run)
        assert before.items() <= after.items(), f"killed after {moment:.2f} s: a finished step was done again"
        assert {m["artifact"] for m in again.json["measurements"]} == {"torch", "onnx", "onnx-int8"} == set(after)
        assert not [path.name for path in run.iterdir() if path.name.startswith((".making", ".old"))]
        for name in before:
            assert f"reused    {name}\n" in again.err
        shutil.rmtree(run)


@pytest.mark.slow
def test_killed_once_and_run_again(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, [4.5])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    killed_and_resumed(tmp_path, [rng.uniform(0.1, 10) for _ in range(20)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_over_several_commands(tmp_path: Path) -> None:
    """A small `make kills`."""
    script = Path(__file__).parents[1] / "benchmarks" / "kills.py"
    names = [word for name in ("train", "bench") for word in ("--command", name)]
    words = ["--count", "6", *names, "--out", str(tmp_path / "kills.json")]
    done = subprocess.run([sys.executable, script, *words], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = json.loads((tmp_path / "kills.json").read_text())["kills"]
    assert sum(not kill["missed"] and not kill["finish"] for kill in kills) >= 6


@pytest.fixture
def working(bars_run: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A run folder in which an edgekit is at work on its last step, and that process."""
    (tmp_path / "slow.toml").write_text(SLOW)
    process = start("run", "slow.toml", "--out", bars_run, "--json", cwd=tmp_path, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (bars_run / "started").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the slow step did not begin"
            time.sleep(0.05)
        yield bars_run, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_on_one_folder(working: tuple[Path, subprocess.Popen[str]], cli: Callable[..., Ended]) -> None:
    run, first = working
    before = finished(run)
    second = cli("run", "bars.toml", "--out", run, "--json")
    assert second.code == 2
    assert "another edgekit is working in" in second.line
    assert second.json["error"]["code"] == 2
    assert "--out" in second.json["error"]["next"]
    for words in (("bench", run), ("verify", run), ("clean", run, "--yes"), ("train", "bars", "--out", run)):
        assert cli(*words).code == 2
    assert first.poll() is None, "the first was disturbed"
    assert finished(run) == before
    assert (run / ".making-slow.torch").is_dir(), "the second cleared away what the first is making"


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(
    working: tuple[Path, subprocess.Popen[str]],
    cli: Callable[..., Ended],
    tmp_path: Path,
    sign: signal.Signals,
    code: int,
) -> None:
    run, process = working
    before = finished(run)
    os.killpg(process.pid, sign)
    out, err = process.communicate(timeout=60)
    ended = Ended(process.returncode, out, err)
    assert ended.code == code
    assert "interrupted" in ended.line
    assert ended.json["error"]["code"] == code
    assert finished(run) == before
    assert not list(run.glob(".making*"))
    (tmp_path / "slow.toml").write_text(SLOW.replace('"slow_copy"', '{step = "slow_copy", seconds = 0.0}'))
    again = cli("run", "slow.toml", "--out", run)
    assert again.code == 0, again.err
    assert before.items() <= finished(run).items()


def test_interrupted_while_training(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(BARS.replace("epochs = 8", "epochs = 100000\npatience = 100000"))
    settings = {"start_new_session": True, "preexec_fn": hear_hangups}
    process = start("run", "long.toml", "--out", "run", cwd=tmp_path, **settings)
    deadline = time.monotonic() + 60
    while "epoch 2" not in _text(tmp_path / "run" / "log.txt") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert Ended(process.returncode, out, err).line.startswith("edgekit: interrupted")
    assert process.returncode == 129
    assert Store(tmp_path / "run").names() == ()


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB: a finished run takes half of it, most of that its page."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _fill(disk: Path, leave: int) -> None:
    """Use up a file system but for `leave` kB."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 1024)
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave * 1024))


LEAVE = [8, 24, 48, *(pytest.param(n, marks=pytest.mark.nightly) for n in (0, 4, 16, 32, 40, 64, 80))]


@pytest.mark.slow
@pytest.mark.parametrize("leave", LEAVE)
def test_no_space(small_disk: Path, leave: int, bars_made: Path, cli: Callable[..., Ended], tmp_path: Path) -> None:
    """Wherever the disk gets full, the command says so, and what was finished is whole; with space it resumes."""
    (tmp_path / "bars.toml").write_text(BARS + QUICK_PLAN)
    run = small_disk / "run"
    shutil.copytree(bars_made / "torch", run / "torch")
    _fill(small_disk, leave)
    ended = cli("run", "bars.toml", "--out", run, "--json")
    assert ended.code == 2, ended.err
    assert "no space left" in ended.line
    assert ended.json["error"]["code"] == 2
    before = finished(run)
    assert "torch" in before
    assert not list(run.glob(".making*"))
    (small_disk / "filler").unlink()
    again = cli("run", "bars.toml", "--out", run)
    assert again.code == 0, again.err
    assert before.items() <= finished(run).items()


def test_no_space_for_the_measurements(
    small_disk: Path, bars_made: Path, cli: Callable[..., Ended], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(bars_made, small_disk / "run"))
    _fill(small_disk, 0)
    ended = cli("bench", run, "--processes", 1)
    assert ended.code == 2, ended.err
    assert "no space left" in ended.line
    assert len(read_results(run / RESULTS)) == 3, "the old results are gone"


#: runs a command without root's right to pass over permissions (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
WITHOUT_PRIVILEGE = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):
    if libc.prctl({PR_CAPBSET_DROP}, capability, 0, 0, 0):
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def someone(tmp_path: Path) -> dict[str, Any]:
    """Settings of a process for which permissions hold, though the tests may run as root."""
    if os.geteuid() != 0:
        return {}
    closed = tmp_path / "is it closed?"
    closed.touch(mode=0)
    through = [sys.executable, "-c", WITHOUT_PRIVILEGE]
    if subprocess.run([*through, "cat", closed], check=False, capture_output=True).returncode == 0:
        pytest.skip("root's privileges cannot be given up here")
    return {"through": through}


def test_no_permission_to_write(cli: Callable[..., Ended], someone: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bars.toml").write_text(BARS + QUICK_PLAN)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    ended = cli("run", "bars.toml", "--out", closed / "run", "--json", **someone)
    assert ended.code == 2, ended.err
    assert "permission denied" in ended.line
    assert "--out" in ended.json["error"]["next"]
    assert not list(closed.iterdir())


def test_no_permission_in_a_run(cli: Callable[..., Ended], someone: dict[str, Any], bars_run: Path) -> None:
    """A run that someone else made can be read, and refuses to be written."""
    for path in [bars_run, *bars_run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert cli("inspect", bars_run, **someone).code == 0
        assert cli("compare", bars_run, **someone).code == 0
        for words in (("bench", bars_run), ("verify", bars_run), ("export", bars_run, "--to", "onnx")):
            ended = cli(*words, **someone)
            assert ended.code == 2, ended.err
            assert "permission denied" in ended.line
    finally:
        for path in [bars_run, *bars_run.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_an_unreadable_recipe(cli: Callable[..., Ended], someone: dict[str, Any], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(BARS)
    recipe.chmod(0)
    ended = cli("run", "mine.toml", **someone)
    assert ended.code == 2
    assert "permission denied" in ended.line
    assert "mine.toml" in ended.line


def test_a_damaged_file_is_refused_then_remade(bars_run: Path, cli: Callable[..., Ended]) -> None:
    before = finished(bars_run)
    model = bars_run / "onnx" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    refused = cli("inspect", bars_run / "onnx", "--json")
    assert refused.code == 2
    assert "sha256 differs" in refused.line
    assert cli("predict", bars_run / "onnx", "bars:test:0").code == 2
    again = cli("run", "bars.toml", "--out", bars_run, "--json")
    assert again.code == 0, again.err
    after = finished(bars_run)
    assert after["torch"] == before["torch"], "its parent was made again"
    assert after["onnx"][0] == before["onnx"][0]
    assert after["onnx"][1] != before["onnx"][1]
    assert after["onnx-int8"] == before["onnx-int8"], "its child was made again though the same parent came back"


@pytest.mark.parametrize("damage", ["{", '{"schema": "edgekit/9"}'])
def test_a_damaged_record_is_remade(bars_run: Path, cli: Callable[..., Ended], damage: str) -> None:
    record = bars_run / "onnx-int8" / "artifact.json"
    record.write_text(damage)
    for words in (("inspect", bars_run / "onnx-int8"), ("bench", bars_run / "onnx-int8")):
        refused = cli(*words)
        assert refused.code == 2, refused.err
        assert "onnx-int8" in refused.line
    again = cli("run", "bars.toml", "--out", bars_run)
    assert again.code == 0, again.err
    assert json.loads(record.read_text())["name"] == "onnx-int8"
