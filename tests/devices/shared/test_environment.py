"""Numpy and a runtime on a device whose Python has neither: fetched there, pushed from here, found again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from devices.sshd import Board

from edgekit import sets
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.devices.shared import environment, ssh
from edgekit.devices.shared.environment import choices, download, ready, resolve_runtime
from edgekit.devices.shared.facts import parse_facts, sections
from edgekit.devices.ssh import Ssh
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs import named_sets
from edgekit.runs.store import Store

QUICK = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=3)


@pytest.fixture
def data(members: None) -> SampleSet:
    return sets.take(named_sets.load("bars:test"), 10)


@pytest.fixture
def bare(board: Board, tmp_path: Path) -> Target:
    """A device whose Python has no packages, not even pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    Ssh(board.target()).clean()
    return board.target(python=str(tmp_path / "bare" / "bin" / "python"))


def test_its_own_python_is_used_where_it_has_what_is_needed(board: Board) -> None:
    session = Ssh(board.target()).session
    found = resolve_runtime(session, board.target(), "onnxruntime")
    assert found.how == "own" and found.version
    assert ready(session, board.target(), "onnxruntime") == ""
    newer = board.target(runtimes={"onnxruntime": ">=999"})
    assert resolve_runtime(session, newer, "onnxruntime").how in ("pip", "wheels")


def test_torch_is_not_pushed(board: Board) -> None:
    target = board.target(runtimes={"torch": ""})
    with pytest.raises(InputError, match="where edgekit is installed"):
        ready(Ssh(target).session, target, "torch")


@pytest.mark.slow
@pytest.mark.alone
def test_wheels_are_pushed_once_to_a_device_without_pip(
    bare: Target, bars_made: Path, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = Store(bars_made).get("onnx")
    session = Ssh(bare).session
    assert resolve_runtime(session, bare, "onnxruntime").how == "wheels"
    first = execute(onnx, bare, data, QUICK, latency=False)
    ssh.close_all()
    monkeypatch.setattr(environment, "download", lambda *_: pytest.fail("it was there already"))
    found = resolve_runtime(Ssh(bare).session, bare, "onnxruntime")
    assert found.how == "made" and found.version == first.facts["runtime_version"]
    started = time.monotonic()
    assert execute(onnx, bare, data, QUICK, latency=False).facts["runtime_version"] == found.version
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_pip_there_is_used_where_it_reaches_an_index(
    board: Board, bars_made: Path, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "with-pip")], check=True)
    target = board.target(python=str(tmp_path / "with-pip" / "bin" / "python"))
    Ssh(board.target()).clean()
    assert resolve_runtime(Ssh(target).session, target, "onnxruntime").how == "pip"
    monkeypatch.setattr(environment, "download", lambda *_: pytest.fail("pip there would do"))
    run = execute(Store(bars_made).get("onnx"), target, data, QUICK, latency=False)
    assert run.facts["runtime_version"]


def test_a_c_library_too_old_for_any_wheel(board: Board, bare: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is asked for what glibc 2.5 could load; nothing has been built for that in years."""
    board.shim("getconf", "echo glibc 2.5")
    ssh.close_all()
    with pytest.raises(DeviceError) as error:
        ready(Ssh(bare).session, bare, "onnxruntime")
    assert "no onnxruntime is available for board" in error.value.what
    assert "glibc 2.5" in error.value.why or "could download it" in error.value.why


def test_no_network_on_either_side(bare: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DeviceError) as error:
        ready(Ssh(bare).session, bare, "onnxruntime")
    assert error.value.why == "neither the device nor this machine could download it: pip reaches no index"
    assert "connect one of them" in error.value.next


def test_a_half_made_environment_does_not_count(bare: Target) -> None:
    session = Ssh(bare).session
    key = resolve_runtime(session, bare, "onnxruntime").key
    answer = session.call("unpack", key=key, wheels={"x.whl": "0" * 64})
    assert answer["error"]["kind"] == "system"
    assert resolve_runtime(session, bare, "onnxruntime").how == "wheels"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
@pytest.mark.parametrize("board", ["raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano"])
def test_the_boards_wheels_are_to_be_had(board: str, runtime: str, tmp_path: Path) -> None:
    """What this machine would push to a board that is not here: real wheels, for its Python and glibc."""
    text = (Path(__file__).parent / "recorded" / f"{board}.txt").read_text()
    facts, target = parse_facts(sections(text)), targets.load(board)
    assert any(download(wanted, facts, tmp_path) == "" for wanted in choices(runtime, target))
    names = [path.name for path in tmp_path.glob("*.whl")]
    assert any(name.startswith("numpy-") for name in names)
    assert all(name.endswith(("aarch64.whl", "none-any.whl")) for name in names)


def test_a_full_disk_here_is_said_to_be_here() -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    error = environment.no_wheels(Target("pi", "", "ssh"), "onnxruntime", parse_facts({}), said)
    assert error.code == 2 and "this machine's disk" in error.why and "TMPDIR" in error.next
