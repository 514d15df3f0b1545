"""Jobs on a real sshd on this machine, and everything that can go wrong between here and there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices.sshd import Board
from helpers import environment

from edgekit import sets
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, EdgekitError, InputError, Missing
from edgekit.core.samples import SampleSet
from edgekit.core.target import Address, Plan, Target
from edgekit.devices.shared import ssh
from edgekit.devices.shared.ssh import OPTIONS, Session
from edgekit.devices.ssh import Ssh
from edgekit.measure import targets
from edgekit.measure.execute import execute, execute_all
from edgekit.runs import named_sets
from edgekit.runs.store import Store

QUICK = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=3, timeout=60)


@pytest.fixture
def onnx(bars_made: Path) -> Artifact:
    return Store(bars_made).get("onnx")


@pytest.fixture
def data(members: None) -> SampleSet:
    return sets.take(named_sets.load("bars:test"), 70)


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests do not look at times, so they do not try again where others used the core."""
    monkeypatch.setattr("edgekit.measure.execute._disturbance", lambda *_: "")


# --- what works ------------------------------------------------------------------------------------------------------


def test_outputs_are_those_of_the_host_bit_for_bit(bars_made: Path, board: Board, data: SampleSet) -> None:
    store = Store(bars_made)
    pairs = [(store.get(name), "onnxruntime") for name in ("onnx", "onnx-int8")]
    here = execute_all(pairs, targets.load("host"), data, QUICK, latency=False)
    there = execute_all(pairs, board.target(), data, QUICK)
    for a, b in zip(here, there, strict=True):
        assert np.array_equal(a.outputs["output"], b.outputs["output"])
        assert (b.target, b.provenance, len(b.processes)) == ("board", "measured", 1)
        assert b.facts["cpu"] == a.facts["cpu"] and b.facts["packages"]["onnxruntime"] == b.facts["runtime_version"]
        assert b.processes[0].peak_rss_bytes > b.processes[0].floor_rss_bytes > 10_000_000


def test_a_file_is_sent_once(
    onnx: Artifact, board: Board, data: SampleSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[str] = []
    real = Session._put

    def spy(self: Session, sha: str, path: Path, size: int) -> dict[str, object]:
        sent.append(path.name)
        return real(self, sha, path, size)

    monkeypatch.setattr(Session, "_put", spy)
    mine = replace(data, inputs={"input": np.random.default_rng(time.time_ns()).random((70, 1, 20, 20), np.float32)})
    execute(onnx, board.target(), mine, QUICK, latency=False)
    assert "input0-0.npy" in sent
    sent.clear()
    ssh.close_all()
    execute(onnx, board.target(), mine, QUICK, latency=False)
    assert sent == [], "another connection finds what is there"
    ssh.close_all()
    (damaged,) = (p for p in (board.cache / "edgekit" / "files").iterdir() if p.stat().st_size == mine_size(mine))
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    execute(onnx, board.target(), mine, QUICK, latency=False)
    assert sent == ["input0-0.npy"], "what was damaged there is sent again"


def mine_size(data: SampleSet) -> int:
    return int(data.inputs["input"].nbytes) + 128


def test_nothing_but_files_and_environments_is_left(onnx: Artifact, board: Board, data: SampleSet) -> None:
    execute(onnx, board.target(), data, QUICK)
    root = board.cache / "edgekit"
    assert {path.name for path in root.iterdir()} <= {"files", "environments", "jobs", "lock"}
    until = time.monotonic() + 10  # the job's folder goes once its results are sent
    while list((root / "jobs").iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list((root / "jobs").iterdir())
    assert oct((root / "files").stat().st_mode)[-3:] == "700"
    found = Ssh(board.target()).clean()
    assert found["root"] == str(root) and found["bytes"] > 1000
    assert not root.exists()


def test_an_alias_of_the_user_s_ssh_config(board: Board) -> None:
    assert Ssh(board.target(address="alias")).facts()["arch"] == targets.load("host").arch


def test_a_shell_that_greets(board: Board) -> None:
    (board.home / ".bashrc").write_text("echo Welcome; echo '== cpuinfo'; printf 'no end'")
    assert Ssh(board.target()).facts()["cores"] == targets.load("host").cores


def test_a_board_that_slows_down_is_disturbed_and_its_temperature_kept(
    onnx: Artifact, board: Board, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # judged as it is
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(board.config))
    real = Session.call

    def hot(self: Session, do: str, **fields: Any) -> dict[str, Any]:
        answer = real(self, do, **fields)
        return {**answer, "throttled": 0xE0008, "temperature_c": 84.5} if do == "run" else answer

    monkeypatch.setattr(Session, "call", hot)
    run = execute(onnx, board.target(), data, QUICK)
    assert run.invalid == ("thermal throttling of the CPU",)
    assert run.facts["temperature_c"] == 84.5


@pytest.mark.slow
@pytest.mark.alone
def test_one_process_costs_little(onnx: Artifact, board: Board, data: SampleSet) -> None:
    """Beside what the same process costs here: less than a tenth of a second each."""
    plan, one = replace(QUICK, processes=6), sets.take(data, 2)

    def seconds(target: Target) -> float:
        execute(onnx, target, one, QUICK, outputs=False)
        started = time.perf_counter()
        execute(onnx, target, one, plan, outputs=False)
        return (time.perf_counter() - started) / 6

    times = [(seconds(board.target()), seconds(targets.load("host"))) for _ in range(3)]
    assert min(there - here for there, here in times) < 0.1, times


def test_messages_stream_while_a_job_runs(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner(monkeypatch, tmp_path, "import time; print('half way', flush=True); time.sleep(1.5); raise SystemExit(3)")
    seen: list[float] = []
    handler = type("Handler", (__import__("logging").Handler,), {"emit": lambda s, r: note(r.getMessage())})()

    def note(line: str) -> None:
        if "half way" in line:
            seen.append(time.monotonic())

    ssh.log.addHandler(handler)
    ssh.log.setLevel("DEBUG")
    try:
        with pytest.raises(DeviceError, match="exit code 3"):
            execute(onnx, board.target(), data, QUICK)
        assert time.monotonic() - seen[0] > 1
    finally:
        ssh.log.removeHandler(handler)


# --- it cannot be reached --------------------------------------------------------------------------------------------


def refused(target: Target) -> EdgekitError:
    with pytest.raises(EdgekitError) as error:
        Ssh(target).facts()
    assert error.value.next, "it says what to do"
    return error.value


def config(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """The test's own ssh configuration, with something else in it."""
    path = tmp_path / "ssh_config"
    text = board.config.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(path))


def test_an_unknown_host_key(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(board, tmp_path, monkeypatch, f"{board.folder}/known_hosts", f"{tmp_path}/known")
    error = refused(board.target())
    assert error.code == 4 and "host key of board is unknown" in error.what
    assert f"-p {board.port} -- 127.0.0.1 true" in error.next
    assert not (tmp_path / "known").exists(), "it was not accepted on the quiet"


def test_a_changed_host_key(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (board.folder / "client_key.pub").read_text().split()[:2]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{board.port} {' '.join(other)}\n")
    config(board, tmp_path, monkeypatch, f"{board.folder}/known_hosts", f"{tmp_path}/known")
    error = refused(board.target())
    assert error.code == 4 and "the host key of board has changed" in error.what
    assert f"ssh-keygen -f {tmp_path}/known -R '[127.0.0.1]:{board.port}'" in error.next


def test_a_wrong_user_and_a_wrong_key(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(board.target(address=f"nobody-here@127.0.0.1:{board.port}"))
    assert error.code == 4 and "does not let you in as nobody-here" in error.what
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    config(board, tmp_path, monkeypatch, f"{board.folder}/client_key", f"{tmp_path}/other")
    error = refused(board.target())
    assert "Permission denied" in error.why
    assert f"ssh-copy-id -p {board.port} {board.address.partition(':')[0]}" in error.next


def test_no_such_host_and_nothing_listening(board: Board) -> None:
    assert "cannot be resolved" in refused(board.target(address="user@no-such-host.invalid")).what
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no ssh server" in refused(board.target(address=f"user@127.0.0.1:{port}")).what


def test_a_host_that_takes_the_call_and_says_nothing(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "ConnectTimeout", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = refused(board.target(address=f"user@127.0.0.1:{silent.getsockname()[1]}"))
    assert error.code == 4 and "cannot be reached" in error.what


def test_a_broken_configuration(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(board, tmp_path, monkeypatch, "IdentitiesOnly", "IdentitiesMaybe")
    error = refused(board.target())
    assert isinstance(error, InputError) and "configuration" in error.what


def test_no_ssh_here(board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(refused(board.target()), Missing)


def test_a_kind_of_board_has_no_address() -> None:
    with pytest.raises(InputError) as error:
        targets.device(targets.load("raspberry-pi-5"))
    assert error.value.next == "edgekit targets add my-raspberry-pi-5 --ssh user@host --like raspberry-pi-5"


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An `ssh` of the test's own, first on the PATH; returns where it writes its arguments, one a line."""

    def make(text: str) -> Path:
        folder = tmp_path / "fake"
        folder.mkdir()
        (folder / "ssh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/words"\n{text}\n')
        (folder / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder / "words"

    return make


#: what OpenSSH 9.2 and 9.6 print
SAID = [
    ("ssh: connect to host pi port 22: Connection timed out", "cannot be reached"),
    ("ssh: connect to host pi port 22: No route to host", "cannot be reached"),
    ("Received disconnect from 10.0.0.2 port 22:2: Too many authentication failures", "too many keys"),
    ("Bad owner or permissions on /home/me/.ssh/config", "configuration"),
    ("kex_exchange_identification: Connection closed by remote host", "cannot talk to"),
    ("something new", "cannot talk to"),
    ("", "cannot talk to"),
]


@pytest.mark.parametrize(("said", "meaning"), SAID)
def test_what_ssh_says_has_a_meaning(fake_ssh: Callable[[str], Path], said: str, meaning: str) -> None:
    fake_ssh(f"echo '{said}' >&2; exit 255")
    error = refused(Target("pi", "", "ssh", address="me@pi"))
    assert meaning in error.what and (said in error.why or not said)


def test_how_ssh_is_called(fake_ssh: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_SSH_CONFIG", raising=False)
    words = fake_ssh("exit 255")
    refused(Target("pi", "", "ssh", address="me@pi:2222", python="/opt/venv/bin/python"))
    found = words.read_text().splitlines()
    assert found[-6:-1] == ["me", "-p", "2222", "--", "pi"]
    assert "BatchMode=yes" in found
    assert not any("StrictHostKeyChecking" in word or "-F" in word or "venv" in word for word in found)
    assert found[-1].startswith("exec sh -c 'eval \"$(dd bs=1 count=")


@pytest.mark.parametrize(
    "text", ["echo This account is restricted; exit 1", "echo '== edgekit 1'; echo; echo '== uname'; exit 0", "cat"]
)
def test_a_far_shell_that_is_none(fake_ssh: Callable[[str], Path], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 2.0)
    fake_ssh(text)
    assert refused(Target("pi", "", "ssh", address="me@pi")).code in (2, 4)


# --- it is there, and something is wrong with it ---------------------------------------------------------------------


def failed(onnx: Artifact, target: Target, data: SampleSet, plan: Plan = QUICK) -> DeviceError:
    with pytest.raises(DeviceError) as error:
        execute(onnx, target, data, plan)
    assert error.value.code == 4 and error.value.next
    return error.value


def runner(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "runner.py").write_text(text)
    monkeypatch.setattr("edgekit.devices.ssh.RUNNER", folder / "runner.py")


def test_no_python(onnx: Artifact, board: Board, data: SampleSet) -> None:
    error = failed(onnx, board.target(python="no-such-python"), data)
    assert "board has no Python" in error.what and "apt install python3" in error.next


def test_a_python_that_does_not_start(onnx: Artifact, board: Board, data: SampleSet) -> None:
    board.shim("python3", "exit 1")
    assert "board has no Python" in failed(onnx, board.target(), data).what


def test_an_old_python_and_a_32_bit_one(onnx: Artifact, board: Board, data: SampleSet) -> None:
    real = f'exec "{sys.executable}" "$@"'
    board.shim("python3", f'case "$*" in *maxsize*) echo 3.7.3 cpython 64;; *) {real};; esac')
    assert "it is 3.7.3; 3.8 or newer is required" in failed(onnx, board.target(), data).why
    ssh.close_all()
    board.shim("python3", f'case "$*" in *maxsize*) echo 3.11.2 cpython 32;; *) {real};; esac')
    assert "32-bit" in failed(onnx, board.target(), data).why


def test_another_architecture_than_the_target_s(onnx: Artifact, board: Board, data: SampleSet) -> None:
    error = failed(onnx, board.target(arch="riscv64"), data)
    assert "does not match its target file" in error.what and "--replace" in error.next


def test_a_full_disk(onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path) -> None:
    """The agent's own calls fail as they do on a full disk, before and while a file is written."""
    Ssh(board.target()).clean()
    ssh.close_all()
    script = tmp_path / "full.py"
    board.shim(
        "python3", f'case "$*" in *agent.py*) exec "{sys.executable}" "{script}" "$@";; esac; echo 3.11.2 cpython 64'
    )
    head = "import os, sys\ndef full(*_):\n    raise OSError(28, 'No space left on device', 'a-file')\n"
    tail = "exec(sys.argv[sys.argv.index('-c') + 1])\n"
    script.write_text(f"{head}os.fsync = full\n{tail}")
    error = failed(onnx, board.target(), data)
    assert "disk of board is full" in error.what and "a-file" in error.why
    ssh.close_all()
    script.write_text(f"{head}class Little:\n    f_bavail = f_frsize = 10\nos.statvfs = lambda _: Little\n{tail}")
    error = failed(onnx, board.target(), data)
    assert "are needed, and 0.0 MB are free" in error.why and "targets clean" in error.next
    assert not list((board.cache / "edgekit" / "files").iterdir()), "nothing half written is left"


def test_out_of_memory(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner(monkeypatch, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "memory ran out: it has" in failed(onnx, board.target(), data).why
    runner(
        monkeypatch,
        tmp_path,
        "import resource, runpy, sys\nresource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        "x = bytearray(400 << 20)",
    )
    assert "MemoryError" in failed(onnx, board.target(), data).why


def test_a_runner_that_dies(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner(monkeypatch, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert "was killed by SIGILL" in failed(onnx, board.target(), data).why
    runner(monkeypatch, tmp_path, "raise SystemExit('something odd')")
    assert "something odd" in failed(onnx, board.target(), data).why


HEAD = '{"schema": "edgekit-runner/1", "error": null, "load_ms": 1, "floor_rss_bytes": 1, "peak_rss_bytes": 1, '
RESULTS = {
    "nothing": "",
    "half": '{"schema": "edgekit-runner/1", "err',
    "a list": "[]",
    "another schema": '{"schema": "edgekit-runner/9", "error": null}',
    "no outputs": HEAD + '"facts": {}}',
    "an absent output": HEAD + '"facts": {}, "outputs": {"output": "out/x"}}',
    "a cut output": HEAD + '"facts": {}, "outputs": {"output": "out/output0.npy"}}',
}


@pytest.mark.parametrize("case", RESULTS)
def test_results_that_are_none(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    np.save(tmp_path / "half.npy", np.zeros(1000))
    half = (tmp_path / "half.npy").read_bytes()[:500]
    text = f"open('out/output0.npy', 'wb').write({half!r}); open('out/result.json', 'w').write({RESULTS[case]!r})"
    runner(monkeypatch, tmp_path, text)
    with pytest.raises(DeviceError, match="sent an invalid result") as error:
        execute(onnx, board.target(), data, QUICK, latency=False)
    assert error.value.next


def test_a_hung_runner_is_stopped_there(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner(monkeypatch, tmp_path, hang(tmp_path))
    error = failed(onnx, board.target(), data, replace(QUICK, timeout=1.0))
    assert "took too long" in error.what and "edgekit run RECIPE --set plan.timeout=" in error.next
    assert gone(tmp_path)
    assert Ssh(board.target()).facts(), "and the connection lives on"


def hang(folder: Path) -> str:
    """A runner that starts a process of its own, and never ends."""
    return (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(folder / 'pids.part')!r}, 'w').write('%d %d' % (os.getpid(), child.pid))\n"
        f"os.rename({str(folder / 'pids.part')!r}, {str(folder / 'pids')!r})\n"
        "time.sleep(600)\n"
    )


def started(folder: Path) -> list[int]:
    stop = time.monotonic() + 30
    while time.monotonic() < stop and not (folder / "pids").is_file():
        time.sleep(0.05)
    return [int(word) for word in (folder / "pids").read_text().split()]


def gone(folder: Path) -> bool:
    """Are the runner and what it started dead, at the latest after five seconds?"""
    stop = time.monotonic() + 5
    while time.monotonic() < stop:
        if not any(alive(pid) for pid in started(folder)):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_reboot_in_mid_run(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner(monkeypatch, tmp_path, hang(tmp_path))

    def pull_the_plug() -> None:
        started(tmp_path)
        board.stop()

    plug = threading.Thread(target=pull_the_plug)
    plug.start()
    error = failed(onnx, board.target(), data)
    plug.join()
    assert "connection to board was lost" in error.what
    monkeypatch.undo()
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(board.config))
    board.start()
    assert execute(onnx, board.target(), data, QUICK, latency=False).outputs, "the next run connects again"


def test_the_connection_is_cut_while_files_are_sent(
    onnx: Artifact, board: Board, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(time.time_ns()).random((5000, 1, 20, 20), np.float32)
    large = replace(data, inputs={"input": noise}, labels=None)
    real, sent = Session._write, [0]

    def cut(self: Session, block: bytes, stop: float) -> None:
        sent[0] += len(block)
        if sent[0] > 2_000_000 and board.process:
            board.stop()
        real(self, block, stop)

    monkeypatch.setattr(Session, "_write", cut)
    assert "was lost" in failed(onnx, board.target(), large).what
    monkeypatch.setattr(Session, "_write", real)
    board.start()
    assert len(execute(onnx, board.target(), large, QUICK, latency=False).outputs["output"]) == 5000
    assert not list((board.cache / "edgekit" / "files").glob("*.part"))


def test_a_device_that_goes_silent(
    onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agent stands still, as on a board that swaps itself to death; revived, it finds that it is not wanted."""
    monkeypatch.setattr("edgekit.devices.ssh.GRACE_SECONDS", 1.0)
    agent = f"open({str(tmp_path / 'agent')!r}, 'w').write(str(os.getppid()))"
    runner(
        monkeypatch, tmp_path, f"import os, signal; {agent}; os.kill(os.getppid(), signal.SIGSTOP)\n" + hang(tmp_path)
    )
    error = failed(onnx, board.target(), data, replace(QUICK, timeout=1.0))
    assert "does not answer" in error.what
    assert all(alive(pid) for pid in started(tmp_path))
    os.kill(int((tmp_path / "agent").read_text()), signal.SIGCONT)
    assert gone(tmp_path)


def test_what_runs_there_ends_with_edgekit(bars_run: Path, board: Board, tmp_path: Path) -> None:
    """However it ends: by Ctrl-C, or killed."""
    target = board.target()
    code = (
        "import sys, pathlib; from edgekit.devices import ssh; from edgekit import cli\n"
        "from edgekit.core.target import Target; from edgekit.measure import targets\n"
        f"ssh.RUNNER = pathlib.Path({str(tmp_path / 'runner.py')!r})\n"
        f"found = Target({target.name!r}, '', 'ssh', {target.arch!r}, address={target.address!r},"
        " runtimes={'onnxruntime': ''})\n"
        "real = targets.load; targets.load = lambda name: found if name == 'board' else real(name)\n"
        f"sys.exit(cli.main(['bench', {str(bars_run / 'onnx')!r}, '--target', 'board', '--processes', '1']))"
    )
    (tmp_path / "runner.py").write_text(hang(tmp_path))
    for sign, ends in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        (tmp_path / "pids").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", code], env=environment(), stderr=subprocess.PIPE, text=True)
        assert all(alive(pid) for pid in started(tmp_path))
        process.send_signal(sign)
        _, said = process.communicate(timeout=20)
        assert process.returncode == ends and "Traceback" not in said, said
        assert gone(tmp_path), sign


def test_two_at_once_on_one_device(
    onnx: Artifact, board: Board, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Session("other", Address.parse(board.address), "python3")
    try:
        other.lock(wait=20)  # what an earlier test left is ending
        session = Ssh(board.target()).session
        with pytest.raises(DeviceError, match="board is busy"):
            session.lock(wait=0.2)
        other.close()
        session.lock(wait=10)
    finally:
        other.close()


# --- what a target file may hold -------------------------------------------------------------------------------------

EVIL = [
    "$(touch {})",
    "`touch {}`",
    "; touch {};",
    "' ; touch {} ; '",
    '" ; touch {} ; "',
    "x\n touch {}",
    "| touch {}",
]
FIELDS = ("name", "title", "device", "arch", "isa", "runtimes", "versions", "notes", "address", "python")


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_in_a_target_file_is_executed(board: Board, tmp_path: Path, field: str) -> None:
    """Refused where it is read; and where it were not, or may stand (title, notes), still not run."""
    mark = tmp_path / "pwned"
    for evil in (text.format(mark) for text in EVIL):
        fields: dict[str, object] = {
            "isa": {"isa": [evil]},
            "runtimes": {"runtimes": {evil: ""}},
            "versions": {"runtimes": {"onnxruntime": evil}},
        }.get(field, {field: evil})
        table = {"name": "board", "title": "", "device": "ssh", "address": board.address, **fields}
        import tomli_w

        (tmp_path / "evil.toml").write_text(tomli_w.dumps(table))
        if field not in ("title", "notes"):
            with pytest.raises(InputError) as error:
                targets.read(tmp_path / "evil.toml")
            assert error.value.problems
        target = board.target(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
        try:
            targets.device(target).facts()
        except (EdgekitError, ValueError):
            assert field not in ("title", "notes")
        assert not mark.exists(), evil


@pytest.mark.parametrize(
    "text",
    ["", "-oProxyCommand=x", "a b", "user@", "@host", "user@-host", "-l@host", "host:", "host:0", "host:65536",
     "u@h:22:1", "u@@h", "h;ls", "h$(ls)", "[::1", "u@[::1]x", "h\n", "ü@h", "h/../x"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pi", ["--", "pi"]),
        ("me@pi", ["-l", "me", "--", "pi"]),
        ("me@10.0.0.2:2222", ["-l", "me", "-p", "2222", "--", "10.0.0.2"]),
        ("me@[fe80::1%eth0]:22", ["-l", "me", "-p", "22", "--", "fe80::1%eth0"]),
    ],
)
def test_addresses(text: str, words: list[str]) -> None:
    address = Address.parse(text)
    assert address.words() == words
    assert Address.parse(str(address)) == address and str(address) == text


def test_every_shipped_target_loads_and_those_that_cannot_run_say_so() -> None:
    kinds = {name: targets.load(name) for name in targets.names()}
    assert {"raspberry-pi-zero-2-w", "raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano"} < set(
        kinds
    )
    for name, target in kinds.items():
        assert target.name == name and target.title and not target.address
        if target.device in ("adb", "ssh"):
            with pytest.raises(InputError, match=f"{name} has no (address|serial number)"):
                targets.device(target)
    assert kinds["x86-mini-pc"].isa_class == "x86" and kinds["x86-mini-pc-vnni"].isa_class == "x86-vnni"
    assert json.dumps(kinds["cloud-x86"].runtimes)


# --- the true cause, and the right command ---------------------------------------------------------------------------


def test_a_changed_host_key_behind_an_alias(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is stored under the name and in the file that ssh's configuration gives it."""
    other = " ".join((board.folder / "client_key.pub").read_text().split()[:2])
    for more, stored in (("", f"[127.0.0.1]:{board.port}"), ("\n    HostKeyAlias my-board", "my-board")):
        (tmp_path / "known").write_text(f"{stored} {other}\n")
        path = tmp_path / "ssh_config"
        text = board.config.read_text().replace(f"{board.folder}/known_hosts", f"{tmp_path}/known")
        path.write_text(text.replace("Host alias", f"Host alias{more}"))
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(path))
        error = refused(board.target(address="alias"))
        assert "the host key of board has changed" in error.what
        command = error.next.partition("If you know why: ")[2].partition(", then: ")[0]
        assert subprocess.run(command, shell=True, capture_output=True).returncode == 0, command
        assert not (tmp_path / "known").read_text()


def test_a_key_file_that_others_can_read(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "my key"
    key.write_bytes((board.folder / "client_key").read_bytes())
    key.chmod(0o644)
    config(board, tmp_path, monkeypatch, f"IdentityFile {board.folder}/client_key", f'IdentityFile "{key}"')
    error = refused(board.target())
    assert "other users can read its file" in error.what and error.next == f"chmod 600 '{key}'"


def test_a_folder_of_another_user_on_the_device(onnx: Artifact, board: Board, data: SampleSet, tmp_path: Path) -> None:
    Ssh(board.target()).clean()
    ssh.close_all()
    script = tmp_path / "denied.py"
    board.shim(
        "python3", f'case "$*" in *agent.py*) exec "{sys.executable}" "{script}" "$@";; esac; echo 3.11.2 cpython 64'
    )
    head = "import os, sys\ndef denied(*_, **__):\n    raise PermissionError(13, 'Permission denied', '/x')\n"
    script.write_text(f"{head}os.makedirs = denied\nexec(sys.argv[sys.argv.index('-c') + 1])\n")
    error = failed(onnx, board.target(), data)
    assert error.what == "board may not write /x" and "chown" in error.next


def test_the_device_s_own_output_is_no_message_of_ssh(fake_ssh: Callable[[str], Path]) -> None:
    from edgekit.devices.shared.ssh_errors import ssh_error

    said = ["Permissions 0644 for '/etc/passwd' are too open", "Host key for x has changed \x1b[31m" + "y" * 5000]
    error = ssh_error(said, "pi", Address.parse("me@pi"), ["ssh"], opened=True)
    assert error.what == "the connection to pi was lost" and str(error).isprintable() and len(str(error)) < 400
