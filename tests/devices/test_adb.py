"""Phones: what adb says against one, in the quick tier; an emulated one with the real adbd, in the slow tier."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import pytest
from helpers import Ended

from edgekit import sets
from edgekit.core.artifact import Artifact, Kind, Sizes, State, TensorSpec
from edgekit.core.device import Job
from edgekit.core.errors import DeviceError, EdgekitError, InputError
from edgekit.core.files import sha256
from edgekit.core.target import Plan, Target
from edgekit.devices import adb as device
from edgekit.devices.qemu import Qemu
from edgekit.devices.shared import adb, emulator, phone_releases, system_image
from edgekit.devices.shared.adb import Phone
from edgekit.devices.shared.bundle import Bundle
from edgekit.devices.shared.emulator import PHONE_TOOLS
from edgekit.devices.shared.phone_releases import NativeReleases
from edgekit.measure import targets
from edgekit.measure.execute import execute, execute_all, execute_steps
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set
from edgekit.workflows import deploy
from edgekit.workflows.deploy import replay
from edgekit.workflows.inspect.operator_times import operator_times

Cli = Callable[..., Ended]
#: virtual seconds
PLAN = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=11, samples=256)
PAIRS = (("onnx", "onnxruntime"), ("onnx-int8", "onnxruntime"), ("tflite", "litert"), ("tflite-int8", "litert"))
#: what runs there of a job: each process has its job's file among its words
JOBS = "ps -o args | grep out/result.jso[n]"
PHONE = Target("phone", "", "adb", runtimes={"onnxruntime": ""}, address="R58M123ABC")


# --- adb's own words, by a script in its place -----------------------------------------------------------------------


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a shell script in adb's place."""

    def write(text: str) -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / "adb").write_text(f'#!/bin/sh\n[ "$1" = start-server ] && exit 0\n{text}\n')
        (tmp_path / "bin" / "adb").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    yield write
    adb.close_all()


@pytest.mark.parametrize(
    ("said", "what", "next"),
    [
        ("error: device unauthorized.", "has not authorized this computer", "allow USB debugging"),
        ("failed to authenticate to 10.0.0.7:5555", "has not authorized this computer", "allow USB debugging"),
        ("error: device offline", "does not answer", "adb reconnect offline"),
        ("error: device 'R58M123ABC' not found", "adb does not see phone", "adb devices -l"),
        ("error: insufficient permissions for device: udev", "has no permission", "udev"),
        ("something new", "cannot talk to phone", "adb devices -l"),
    ],
)
def test_what_adb_says_is_made_plain(said: str, what: str, next: str, scripted: Callable[[str], None]) -> None:
    scripted(f'echo "{said}" >&2; exit 1')
    with pytest.raises(DeviceError, match=what) as error:
        Phone("phone", "R58M123ABC")
    assert error.value.code == 4 and next in error.value.next and error.value.why == said


def test_without_adb_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgekitError) as error:
        Phone("phone", "R58M123ABC")
    assert error.value.code == 3 and "apt install adb" in error.value.next


ANDROID = """case "$3" in get-state) echo device; exit 0 ;; esac
cat <<'END'

== edgekit 1

== uname
Linux
5.10.149-android13-4
aarch64

== cpuinfo
processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd44

== cores
8

== meminfo
MemTotal:        7678144 kB

== disk
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/block/dm-5  112000000 5000000 107000000       5% /data

== date
1000000000

== getprop
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 7 Pro]
[ro.build.version.release]: [13]
[ro.build.version.sdk]: [33]

== end

== exit 0
END"""


def test_a_check_says_that_files_were_not_replayed(tmp_path: Path) -> None:
    """The phone's runner reads arrays: its check compares those, and does not claim more."""
    output = np.eye(3, dtype=np.float32)

    class There:
        name = "phone"
        check: ClassVar[dict[str, object]] = {"tolerance": 0.0, "files": {"names": ["check/files/00.jpg"]}}

        def reserved(self) -> nullcontext[None]:
            return nullcontext()

        def shell(self, *_: object) -> tuple[int, str]:
            return 0, ""

        def check_exit(self, *_: object) -> None:
            pass

        def pull(self, there: str, here: Path, named: Mapping[str, int]) -> None:
            if "result.json" in named:
                (here / "result.json").write_text(json.dumps({"error": None, "outputs": {"y": "/out/output0.npy"}}))
                np.save(here / "output0.npy", output)
                assert (here / "output0.npy").stat().st_size <= named["output0.npy"]
            elif "outputs.npz" in named:
                np.savez(here / "outputs.npz", y=output)
            else:
                (here / "manifest.json").write_text(json.dumps({"check": self.check}))

    releases = NativeReleases(cast(Phone, There()), PHONE, "edgekit/x")
    check = releases.check("0" * 16)
    assert check["ok"] and check["files"]["count"] == 0
    assert replay.sentence(check).endswith("a phone's runner reads arrays: preprocessing was not checked there")
    There.check = {"tolerance": 0.0}
    assert "files" not in releases.check("0" * 16), "a bundle without files"


#: an adb whose phone is this machine
HERE = """case "$3" in get-state) echo device ;; push) cp "$4" "$5" ;; *) exec sh -c "$4" ;; esac"""


@pytest.fixture
def here(scripted: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A phone that is this machine, with a folder of its own."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: sudo apt install gcc libc6-dev")
    package = Path(pytest.importorskip("onnxruntime").__file__).parent
    scripted(HERE)
    for module in (adb, device, phone_releases):
        monkeypatch.setattr(module, "ROOT", str(tmp_path / "phone" / ".edgekit"))
    for module in (adb, phone_releases):
        monkeypatch.setattr(module, "HOME", str(tmp_path / "phone"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    libraries = {"onnxruntime": str(next((package / "capi").glob("libonnxruntime.so*")))}
    return replace(PHONE, name="here", address="HERE", libraries=libraries)


def counting(folder: Path, forgets: bool = False) -> Artifact:
    """Its logits say how often each of 5 tokens came, the last twice. `forgets`: its next state ignores the state."""
    onnx = pytest.importorskip("onnx")
    make, types = onnx.helper, onnx.TensorProto
    folder.mkdir()
    nodes = [
        make.make_node("OneHot", ["tokens", "depth", "values"], ["each"]),
        make.make_node("CumSum", ["each", "axis"], ["counts"]),
        make.make_node("Unsqueeze", ["before", "axis"], ["before_"]),
        make.make_node("Add", ["counts", "before_"], ["sums"]),
        make.make_node("Add", ["sums", "each"], ["logits"]),
        make.make_node("Gather", ["counts" if forgets else "sums", "last"], ["after"], axis=1),
    ]
    tokens = make.make_tensor_value_info("tokens", types.INT64, ("n", "length"))
    before, after = (make.make_tensor_value_info(name, types.FLOAT, ("n", 5)) for name in ("before", "after"))
    logits = make.make_tensor_value_info("logits", types.FLOAT, ("n", "length", 5))
    constants = {
        "depth": np.array(5),
        "values": np.array([0, 1], np.float32),
        "axis": np.array([1]),
        "last": np.array(-1),
    }
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = make.make_graph(nodes, "counts", [before, tokens], [after, logits], weights)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    state = State(TensorSpec("before", "float32", (None, 5)), TensorSpec("after", "float32", (None, 5)))
    inputs, outputs = TensorSpec("tokens", "int64", (None, None)), TensorSpec("logits", "float32", (None, None, 5))
    files = {"model.onnx": sha256(folder / "model.onnx")}
    kind, sizes = Kind("onnx"), Sizes(1, 1, 0, 0)
    return Artifact("m", "1", kind, "s", {}, (), "", (inputs,), (outputs,), sizes, files, folder, states=(state,))


def test_a_phone_keeps_states(here: Target, tmp_path: Path) -> None:
    """Outputs, tokens and times as on this machine; and a release that is checked position by position."""
    model = counting(tmp_path / "model")
    tokens = np.array([[1, 1, 4, 1], [2, 3, 3, 2], [0, 0, 0, 1]])
    each = np.eye(5, dtype=np.float32)[tokens]
    logits, data, phone = each.cumsum(axis=1) + each, sample_set("t", {"tokens": tokens}, None), device.Adb(here)
    np.save(tmp_path / "tokens.npy", tokens)
    (tmp_path / "out").mkdir()
    plan = replace(PLAN, prompt=3, new_tokens=2)
    job = Job(model, "onnxruntime", {"tokens": tmp_path / "tokens.npy"}, plan, outputs=True, latency=True)
    result = phone.run(job, tmp_path / "out")
    assert np.array_equal(np.load(result["outputs"]["logits"]), logits)
    assert len(result["times_ns"]) == len(result["first_token_ns"]) >= 3
    made = execute_steps(model, here, data, new_tokens=2)["tokens"]
    assert made.tolist() == [[1, 1], [2, 2], [0, 0]]
    assert np.array_equal(execute_steps(model, here, data, stepwise=2)["logits"], logits)
    assert "onnxruntime only" in next(phone.incompatibilities(model, "litert"))

    np.savez(tmp_path / "inputs.npz", tokens=tokens)
    np.savez(tmp_path / "outputs.npz", logits=logits)
    manifest = {"runtime": "onnxruntime", "model": "model/model.onnx", "inputs": [{"name": "tokens"}]}
    manifest |= {"states": {"before": "after"}, "check": {"tolerance": 1e-6}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    files = {f"check/{name}.npz": tmp_path / f"{name}.npz" for name in ("inputs", "outputs")}
    releases = phone.releases("lm")
    checks = []
    for id, placed in (("0" * 16, model), ("1" * 16, counting(tmp_path / "forgets", forgets=True))):
        files |= {"manifest.json": tmp_path / "manifest.json", "model/model.onnx": placed.path / "model.onnx"}
        assert releases.place(Bundle(id, manifest, files))["placed"]
        checks.append(releases.check(id))
    assert checks[0]["ok"] and checks[0]["bit_identical"], checks[0]
    assert not checks[1]["ok"] and "differ" in checks[1]["why"], "a call with all positions is right"
    run_file = tmp_path / "phone" / "lm" / "releases" / ("0" * 16) / "run"
    for count in (2, 32):
        more = {"NEW_TOKENS": "2"} if count == 2 else {}
        subprocess.run(
            ["sh", run_file, tmp_path / "a", tmp_path / "tokens.npy"], check=True, env={**os.environ, **more}
        )
        answer = np.load(tmp_path / "a" / "output0.npy")
        assert answer.shape == (3, count) and answer[:, :2].tolist() == made.tolist()


def test_a_phone_is_read_and_kept(cli: Cli, scripted: Callable[[str], None], tmp_path: Path) -> None:
    """Composed from what Android's own documentation says these commands print; no phone was at hand."""
    scripted(ANDROID)
    own = tmp_path / "libonnxruntime.so"
    own.write_bytes(b"\x7fELF")
    settings = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": os.environ["PATH"]}
    words = ("targets", "add", "mine", "--adb", "R58M123ABC", "--library", f"onnxruntime={own}", "--json")
    ended = cli(*words, env=settings)
    assert ended.code == 0, ended.err
    found = ended.json["result"]
    assert found["title"] == "Google Pixel 7 Pro (Android 13 (API 33))" and found["cores"] == 8
    assert (found["arch"], found["isa"], found["memory_mb"]) == ("aarch64", ["asimd", "asimdhp", "asimddp"], 7498)
    assert found["libraries"] == {"onnxruntime": str(own)} and found["address"] == "R58M123ABC"
    checked = cli("targets", "check", "mine", env=settings)
    assert checked.code == 4 and "EDGEKIT_ANDROID_CC" in checked.out and "Pixel 7 Pro" in checked.out
    [clock] = [line for line in checked.out.splitlines() if "clock" in line]
    assert "off by" in clock and "days" in clock, "it believes to be in 2001"


@pytest.mark.parametrize(
    "words",
    [
        ("x", "--adb", "a; touch pwned"),
        ("x", "--adb", "-s"),
        ("x", "--adb", "1", "--ssh", "me@pi"),
        ("x",),
        ("x", "--adb", "1", "--library", "onnxruntime"),
        ("x", "--adb", "1", "--library", "openvino=/x.so"),
        ("x", "--adb", "1", "--library", "onnxruntime=/no/such.so"),
        ("x", "--ssh", "me@pi", "--library", "onnxruntime=/x.so"),
    ],
)
def test_bad_words_reach_no_device(words: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    ended = cli("targets", "add", *words)
    assert ended.code == 2 and not list(tmp_path.rglob("pwned")), ended.err


def test_shell_metacharacters_are_no_field(tmp_path: Path) -> None:
    for field in ("name", "address", "arch", "system", "cpu"):
        bad = replace(PHONE, **{field: "$(touch pwned)"})  # type: ignore[arg-type]
        assert any(field in problem for problem in bad.problems()), field


# --- a real adbd -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "boards"))
        try:
            system_image.check_tools(*PHONE_TOOLS)
        except EdgekitError as error:
            assert not os.environ.get("CI"), error
            pytest.skip(str(error))
        yield targets.load("emulated-phone")
        emulator.stop("emulated-phone")
        adb.close_all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_emulated_phone(phone: Target, bars_formats: Path, members: None) -> None:
    """From nothing: both runtimes, float and int8, then a deployment, then its end in mid-run."""
    store, data = Store(bars_formats), sets.take(named_sets.load("bars:test"), 256)
    pairs = [(store.get(name), runtime) for name, runtime in PAIRS]
    there = execute_all(pairs, phone, data, PLAN)
    again = execute_all(pairs, phone, data, PLAN, outputs=False)
    here = execute_all(pairs, targets.load("host"), data, PLAN, latency=False)
    for (artifact, _), first, second, host in zip(pairs, there, again, here, strict=True):
        mine, theirs = first.outputs["output"], host.outputs["output"]
        if "int8" in artifact.name and not ("s8s8" in artifact.scheme and targets.load("host").isa_class == "x86"):
            assert np.array_equal(mine, theirs), artifact.name
        else:
            np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(theirs).max(), err_msg=artifact.name)
        assert first.provenance == "emulated" and not first.processes[0].times_ns
        counts = first.facts["instructions"] / second.facts["instructions"]
        assert abs(counts - 1) <= 0.005, (artifact.name, counts)
        assert 4_000_000 < first.processes[0].peak_rss_bytes < 100_000_000
    _deployed(phone, bars_formats)
    _faults(phone, store)


def _deployed(phone: Target, run: Path) -> None:
    first = deploy.deploy(str(run / "onnx-int8"), phone.name)
    assert first.how == "deployed" and first.check["ok"] and first.sent_bytes > 0
    again = deploy.deploy(str(run / "onnx-int8"), phone.name)
    assert again.how == "unchanged" and again.sent_bytes == 0
    second = deploy.deploy(str(run / "tflite"), phone.name)
    assert second.previous == first.id and second.check["ok"]
    inside = Qemu(phone).inside.phone  # type: ignore[union-attr]
    code, said = inside.shell(
        f"cd {second.at} && sh ./run /data/local/tmp/answers check/input00.npy && ls /data/local/tmp/answers"
    )
    assert code == 0 and "output0.npy" in said and "result.json" in said
    back = deploy.rollback(str(run / "onnx-int8"), phone.name)
    assert (back.id, back.previous) == (first.id, second.id)


def _faults(phone: Target, store: Store) -> None:
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 8)
    with pytest.raises(InputError, match="openvino does not run"):
        execute(store.get("openvino"), replace(phone, runtimes={"openvino": ""}), data, PLAN, runtime="openvino")
    with pytest.raises(InputError, match="no operators of"):
        operator_times(str(onnx.path), phone.name)
    with pytest.raises(DeviceError, match="took too long"):
        execute(onnx, phone, data, replace(PLAN, seconds=600.0, timeout=1.0))
    inside = Qemu(phone).inside.phone  # type: ignore[union-attr]
    assert _nothing_runs(inside)
    free = inside.free()
    inside.checked(f"fallocate -l {free - 300_000} /data/local/tmp/full")
    more = replace(data, inputs={"input": np.random.default_rng(5).random((4000, 1, 20, 20), np.float32)}, labels=None)
    with pytest.raises(DeviceError, match="storage of emulated-phone is full"):
        execute(onnx, phone, more, PLAN, latency=False)
    inside.shell("rm -f /data/local/tmp/full")
    assert execute(onnx, phone, data, PLAN, latency=False).outputs["output"].shape[0] == 8
    _damaged_results(phone, store)
    _cuts(phone, store)


def _nothing_runs(phone: Phone) -> bool:
    """Once the processes of a job that was ended have gone."""
    stop = time.monotonic() + 20
    while "job.json" in phone.shell(JOBS)[1]:
        if time.monotonic() > stop:
            return False
        time.sleep(0.5)
    return True


@contextmanager
def _in_front(script: str) -> Iterator[None]:
    """The real adb, as "$real", behind a script."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "adb")
        path.write_text(f'#!/bin/sh\nreal="{shutil.which("adb")}"\n{script}\n')
        path.chmod(0o755)
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield


def _damaged_results(phone: Target, store: Store) -> None:
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 8)
    for damage in ("head -c 60", "tr { x"):
        pulled = f'case "$*" in *exec-out*result.json) "$real" "$@" | {damage}; exit;; esac; exec "$real" "$@"'
        with _in_front(pulled), pytest.raises(DeviceError, match=r"sent an invalid result|it sent 60 of"):
            execute(onnx, phone, data, PLAN, latency=False)
    assert execute(onnx, phone, data, PLAN, latency=False).outputs["output"].shape[0] == 8


def _cuts(phone: Target, store: Store) -> None:
    """The connection in mid-run and while files are sent; the device's own reboot; its power."""
    onnx, data = store.get("onnx"), sets.take(named_sets.load("bars:test"), 8)
    long = replace(PLAN, seconds=60.0)
    noise = np.random.default_rng(time.time_ns()).random((8000, 1, 20, 20), np.float32)
    large, whole = replace(data, inputs={"input": noise}, labels=None), replace(PLAN, samples=8000)

    def inside() -> Phone:
        return Qemu(phone).inside.phone  # type: ignore[union-attr]

    first = inside()
    serial = first.serial
    running: list[str] = []

    def cut() -> None:
        stop = time.monotonic() + 60
        while not running and time.monotonic() < stop:
            running.extend(line for line in first.shell(JOBS)[1].splitlines() if "job.json" in line)
        adb.adb(["disconnect", serial], 15)

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(DeviceError) as error:
        execute(onnx, phone, data, long, outputs=False)
    cutter.join()
    assert error.value.code == 4 and first.disconnected and running, error.value
    second = inside()
    assert second is first and not second.disconnected, "the same device, reached again"
    assert _nothing_runs(second)

    cutting = f'[ "$3" = push ] && {{ sleep 0.3; "$real" disconnect {serial}; }} >/dev/null &\nexec "$real" "$@"'
    with _in_front(cutting), pytest.raises(DeviceError) as error:
        execute(onnx, phone, large, whole, latency=False)
    assert error.value.code == 4 and second.disconnected, error.value
    assert len(execute(onnx, phone, large, whole, latency=False).outputs["output"]) == 8000

    board = emulator._running[phone.name]
    threading.Timer(3.0, adb.adb, (["-s", serial, "shell", "busybox reboot -f"], 15)).start()
    with pytest.raises(DeviceError):
        execute(onnx, phone, data, long)
    board.process.wait(60)
    assert len(execute(onnx, phone, large, whole, latency=False).outputs["output"]) == 8000, "as its disk was left"
    assert emulator._running[phone.name] is not board

    pid = emulator._running[phone.name].process.pid
    threading.Timer(3.0, os.killpg, (pid, signal.SIGKILL)).start()
    with pytest.raises(DeviceError):
        execute(onnx, phone, data, long)
