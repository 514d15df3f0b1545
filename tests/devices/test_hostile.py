"""Hostile devices: every answer that they may give ends in one DeviceError, in time, with nothing left behind."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices.hostile import ATTACKS, RESULT, HostileAdb, HostileSsh
from helpers import Ended, environment

from edgekit import sets
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError
from edgekit.core.measurement import Run
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.devices.shared import adb, native, ssh
from edgekit.devices.ssh import Ssh
from edgekit.measure.execute import execute
from edgekit.runs import named_sets
from edgekit.runs.store import Store

PLAN = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=3, timeout=0.5)
SSH = Target("board", "", "ssh", address="me@hostile", runtimes={"onnxruntime": ""})
PHONE = Target("phone", "", "adb", address="hostile", runtimes={"onnxruntime": ""})
COUNT = 5
#: the deadlines below, with what starting and ending a process takes on a busy machine
SOON = 8.0


@pytest.fixture
def onnx(bars_made: Path) -> Artifact:
    return Store(bars_made).get("onnx")


@pytest.fixture
def data(members: None) -> SampleSet:
    return sets.take(named_sets.load("bars:test"), COUNT)


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


@pytest.fixture
def output(onnx: Artifact) -> bytes:
    return npy(np.zeros((COUNT, *(size or 1 for size in onnx.outputs[0].shape[1:])), np.float32))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, the test's own."""
    folder = tmp_path / "a" / "b" / "temporary"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def hostile(output: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Iterator[HostileSsh]:
    device = HostileSsh(tmp_path / "ssh", output)
    monkeypatch.setenv("PATH", f"{device.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(ssh, "CLOSE_SECONDS", 0.2)
    yield device
    ssh.close_all()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(ssh, "STALL_SECONDS", 0.7)
    monkeypatch.setattr(ssh.Session.lock, "__defaults__", (0.0,))
    monkeypatch.setattr("edgekit.devices.ssh.GRACE_SECONDS", 0.0)
    monkeypatch.setattr(adb, "SHELL_SECONDS", 0.7)
    monkeypatch.setattr("edgekit.devices.adb.GRACE_SECONDS", 0.0)


@pytest.fixture
def phone(output: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Iterator[HostileAdb]:
    device = HostileAdb(output)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(device.port))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("runner", "library"):
        (tmp_path / name).write_bytes(name.encode())
        monkeypatch.setattr(native, name, lambda *_, path=tmp_path / name: path)
    monkeypatch.setattr(native, "version", lambda *_: "1.32.0")
    yield device
    adb.close_all()
    device.close()


def rss(field: str) -> int:
    """A figure of this process's memory, in bytes."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def children() -> set[str]:
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@contextmanager
def contained(temporary: Path, tmp_path: Path) -> Iterator[None]:
    """In time, in little memory, with no process and no file left."""
    before, files, started = children(), sorted(tmp_path.rglob("*")), time.monotonic()
    Path("/proc/self/clear_refs").write_text("5")
    memory = rss("VmRSS")
    yield
    assert time.monotonic() - started < SOON
    assert rss("VmHWM") - memory < 100_000_000
    assert not children() - before
    assert not list(temporary.iterdir())
    after = [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.relative_to(tmp_path).parts]
    assert after == [path for path in files if "cache" not in path.relative_to(tmp_path).parts]


def measured(target: Target, artifact: Artifact, data: SampleSet, latency: bool = False) -> Run:
    return execute(artifact, target, data, PLAN, latency=latency)


def refused(target: Target, artifact: Artifact, data: SampleSet, latency: bool = False) -> DeviceError:
    with pytest.raises(DeviceError) as error:
        measured(target, artifact, data, latency)
    text = f"{error.value} {error.value.next}"
    assert error.value.code == 4 and target.name in error.value.what and error.value.next
    assert text.isprintable() and len(text) < 1500, text
    return error.value


def test_the_honest_one_is_measured(hostile: HostileSsh, onnx: Artifact, data: SampleSet) -> None:
    run = measured(SSH, onnx, data, latency=True)
    assert len(run.outputs["output"]) == COUNT and run.processes[0].times_ns == tuple(RESULT["times_ns"])


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("what", ATTACKS)
@pytest.mark.parametrize("at", [pytest.param("hello", marks=pytest.mark.slow), "run"])
def test_every_attack_on_two_answers(
    at: str, what: str, hostile: HostileSsh, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    hostile.attack(at, what)
    with contained(temporary, tmp_path):
        error = refused(SSH, onnx, data)
        ssh.close_all()
    assert "\x1b" not in str(error)


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("what", ["garbage", "an endless line", "endless lines", "a drip", "a half, then silence"])
@pytest.mark.parametrize("at", ["greeting", "versions", "lock", "missing", "put"])
def test_every_exchange_ends(
    at: str, what: str, hostile: HostileSsh, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    hostile.attack(at, what)
    with contained(temporary, tmp_path):
        refused(SSH, onnx, data)
        ssh.close_all()


@pytest.mark.usefixtures("brief")
def test_endless_messages(
    hostile: HostileSsh, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    hostile.attack("messages", "")
    with contained(temporary, tmp_path):
        refused(SSH, onnx, data)
        ssh.close_all()


FILES: dict[str, list[list[object]]] = {
    "outside": [["../../x", 10]],
    "absolute": [["/tmp/edgekit-x", 10]],
    "hidden": [[".bashrc", 10]],
    "unasked": [["result.json", 10], ["x.py", 10]],
    "negative": [["result.json", -1]],
    "no number": [["result.json", "10"]],
    "a fraction": [["result.json", 1.5]],
    "huge": [["result.json", 10**15]],
    "a huge output": [["output0.npy", 10**9]],
    "twice": [["result.json", 10], ["result.json", 10]],
    "thousands": [[f"output{i}.npy", 10] for i in range(5000)],
    "no pair": [["result.json"]],
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_the_answer_s(
    case: str, hostile: HostileSsh, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    hostile.attack("run", {"files": FILES[case]})
    with contained(temporary, tmp_path):
        assert "invalid answer" in refused(SSH, onnx, data).what
        ssh.close_all()


def header(text: str, data: bytes = b"") -> str:
    """The hexadecimal bytes of a `.npy` file with any header."""
    line = text.encode().ljust(118) + b"\n"
    return (b"\x93NUMPY\1\0" + len(line).to_bytes(2, "little") + line + data).hex()


LIES: dict[str, tuple[object, dict[str, str], str]] = {
    "not JSON": ("{", {}, "not JSON"),
    "not UTF-8 in effect": ('{"schema": "\\ud800"}', {}, "schema"),
    "another schema": ({"schema": "edgekit-runner/9"}, {}, "schema"),
    "no error": ({"error": "absent"}, {}, "error"),
    "an error that is a number": ({"error": 5}, {}, "error"),
    "an error of no kind": ({"error": {"kind": "pwned", "what": "x"}}, {}, "kind"),
    "an error without a text": ({"error": {"kind": "run"}}, {}, "'what' is missing"),
    "no facts": ({"facts": "absent"}, {}, "'facts' is missing"),
    "facts that are a list": ({"facts": []}, {}, "facts"),
    "a fact of edgekit's own": ({"facts": {"load_average": "x"}}, {}, "load_average"),
    "a fact that is an object": ({"facts": {"x": {}}}, {}, "the fact x"),
    "thousands of facts": ({"facts": {f"a{i}": 1 for i in range(5000)}}, {}, "5000 facts"),
    "no outputs": ({"outputs": {}}, {}, "0 outputs, and the model has 1"),
    "two outputs": ({"outputs": {"a": "output0.npy", "b": "output1.npy"}}, {}, "2 outputs"),
    "an output elsewhere": ({"outputs": {"output": "/etc/passwd"}}, {}, "is not in output0.npy"),
    "an output that is the result": ({"outputs": {"output": "result.json"}}, {}, "is not in output0.npy"),
    "an output of other samples": ({}, {"output0.npy": npy(np.zeros((4, 4))).hex()}, "for 5 samples"),
    "an output of another shape": ({}, {"output0.npy": npy(np.zeros((COUNT, 77))).hex()}, "the model's has"),
    "a cut output": ({}, {"output0.npy": npy(np.zeros((COUNT, 4))).hex()[:-20]}, "bytes of data"),
    "an output that is none": ({}, {"output0.npy": "00"}, "not a .npy file"),
    "an output of objects": (
        {},
        {"output0.npy": header("{'descr': '|O', 'fortran_order': False, 'shape': (5,)}")},
        "numbers",
    ),
    "an output of a terabyte": (
        {},
        {"output0.npy": header("{'descr': '<f8', 'fortran_order': False, 'shape': (5, 25000000000)}")},
        "bytes of data",
    ),
    "a negative shape": (
        {},
        {"output0.npy": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-5, -1)}")},
        "shape",
    ),
    "a header that is no dictionary": ({}, {"output0.npy": header("[" * 100)}, "not a .npy file"),
    "a header that does not end": ({}, {"output0.npy": header("{'descr': '''")}, "not a .npy file"),
}  # fmt: skip

TIMES: dict[str, tuple[dict[str, object], str]] = {
    "NaN": ({"times_ns": [float("nan")] * 20}, "NaN"),
    "infinity": ({"load_ms": float("inf")}, "Infinity"),
    "zero": ({"times_ns": [0] * 20}, "positive"),
    "negative": ({"times_ns": [-5] * 20}, "positive"),
    "texts": ({"times_ns": ["1"] * 20}, "positive"),
    "an age": ({"times_ns": [10**18] * 20}, "positive"),
    "none": ({"times_ns": []}, "0 times"),
    "absent": ({"times_ns": "absent"}, "'times_ns' is missing"),
    "of another length": ({"cpu_ns": [1]}, "cpu_ns"),
    "first tokens of another length": ({"first_token_ns": [1]}, "first_token_ns"),
    "first tokens after the last": ({"first_token_ns": [1001] * 20}, "within their request"),
    "no watch": ({"watch": "absent"}, "'watch' is missing"),
    "half a watch": ({"watch": {"cpu_share": 1.0}}, "is missing"),
    "a batch of none": ({"batch": 0}, "out of range"),
    "a memory that is a text": ({"peak_rss_bytes": "much"}, "peak_rss_bytes"),
    "an unknown field": ({"pwned": 1}, "pwned"),
    "energy as a text": ({"energy_mj": "x"}, "energy_mj"),
}


@pytest.mark.parametrize("case", LIES)
def test_results_that_lie(
    case: str, hostile: HostileSsh, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    result, sent, why = LIES[case]
    hostile.attack("run", {"result": result, "sent": sent})
    with contained(temporary, tmp_path):
        error = refused(SSH, onnx, data)
        ssh.close_all()
    assert why in error.why, error.why


@pytest.mark.parametrize("case", TIMES)
def test_times_that_lie(
    case: str, hostile: HostileSsh, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    result, why = TIMES[case]
    hostile.attack("run", {"result": result})
    with contained(temporary, tmp_path):
        error = refused(SSH, onnx, data, latency=True)
        ssh.close_all()
    assert why in error.why, error.why


ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("missing", {"missing": ["f" * 64], "free": 10**9}),
    ("missing", {"missing": "x", "free": 10**9}),
    ("missing", {"missing": [], "free": -1}),
    ("versions", {"versions": ["numpy"]}),
    ("versions", {"versions": {"numpy": "two"}}),
    ("versions", {"versions": {"numpy": 2}}),
    ("has", {"has": "yes"}),
    ("run", {"code": None, "timed_out": False, "said": "", "free": 1, "temperature_c": None, "throttled": 0}),
    ("run", {"code": 0, "timed_out": False, "said": "", "free": 1, "temperature_c": "hot", "throttled": 0}),
]


@pytest.mark.parametrize(("at", "answer"), ANSWERS)
def test_answers_of_other_types(
    at: str, answer: dict[str, Any], hostile: HostileSsh, onnx: Artifact, data: SampleSet
) -> None:
    hostile.attack(at, answer)
    if at == "has":
        with pytest.raises(DeviceError, match="invalid answer"):
            Ssh(SSH).session.call("has", key="x")
    else:
        assert "invalid answer" in refused(SSH, onnx, data).what


@pytest.mark.parametrize("code", [-35, -200, 300])
def test_a_runner_that_ended_by_a_signal_without_a_name(
    code: int, hostile: HostileSsh, onnx: Artifact, data: SampleSet
) -> None:
    said = "\x1b[2J" + "y" * 3000
    hostile.attack(
        "run", {"code": code, "timed_out": False, "said": said, "free": 1, "temperature_c": None, "throttled": 0}
    )
    assert str(abs(code)) in refused(SSH, onnx, data).why


def test_a_bench_ends_with_exit_code_4(
    hostile: HostileSsh, bars_made: Path, cli: Callable[..., Ended], tmp_path: Path
) -> None:
    """The whole command: one line, no traceback."""
    folder = tmp_path / "config" / "edgekit" / "targets"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text(
        'name = "board"\ntitle = "x"\ndevice = "ssh"\naddress = "me@hostile"\nruntimes = {onnxruntime = ""}\n'
    )
    hostile.attack("run", {"result": {"watch": "absent"}})
    settings = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": os.environ["PATH"]}
    ended = cli("bench", bars_made / "onnx", "--target", "board", "--processes", "1", env=environment(**settings))
    assert ended.code == 4 and "board sent an invalid result" in ended.line, ended.err


# --- phones ----------------------------------------------------------------------------------------------------------


def test_the_honest_phone_is_measured(phone: HostileAdb, onnx: Artifact, data: SampleSet) -> None:
    assert len(measured(PHONE, onnx, data).outputs["output"]) == COUNT


FLOODS = ("garbage", "an endless line", "endless lines", "a drip", "silence", "a half", "a half, then silence")


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("what", ["garbage", "an endless line", "endless lines", "a drip"])
@pytest.mark.parametrize("at", ["edgekit 1", "exec:cat"])
def test_two_scripts_of_a_phone_end(
    at: str, what: str, phone: HostileAdb, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    phone.attack(at, what)
    with contained(temporary, tmp_path):
        refused(PHONE, onnx, data)
        adb.close_all()


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("what", FLOODS)
@pytest.mark.parametrize("at", ["edgekit 1", "df -Pk", "job.json", "wc -c", "exec:cat"])
def test_every_script_of_a_phone_ends(
    at: str, what: str, phone: HostileAdb, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    phone.attack(at, what)
    with contained(temporary, tmp_path):
        refused(PHONE, onnx, data)
        adb.close_all()


@pytest.mark.parametrize(
    "listing",
    [
        "10 ../../x",
        "99999999999999 result.json",
        "5000 x.py",
        "10 result.json",
        "1" * 5000 + " result.json",
        "10 /tmp/x",
    ],
)
def test_a_phone_that_lists_other_files(
    listing: str, phone: HostileAdb, onnx: Artifact, data: SampleSet, temporary: Path, tmp_path: Path
) -> None:
    phone.attack("wc -c", f"{listing}\n\n== exit 0\n".encode())
    with contained(temporary, tmp_path):
        refused(PHONE, onnx, data)
        adb.close_all()
    assert not Path("/tmp/x").exists()


def test_a_phone_whose_result_lies(phone: HostileAdb, onnx: Artifact, data: SampleSet) -> None:
    phone.files["result.json"] = json.dumps({**RESULT, "facts": "x"}).encode()
    assert "facts" in refused(PHONE, onnx, data).why
