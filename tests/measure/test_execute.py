"""The code that runs artifacts on devices, and the runner."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgekit import sets
from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, EdgekitError, InputError, Missing
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.measure import execute as execute_module
from edgekit.measure import targets
from edgekit.measure.execute import execute, execute_all, runtimes_for
from edgekit.ondevice import runner
from edgekit.runs import named_sets
from edgekit.runs.store import Store

QUICK = Plan(processes=2, seconds=0.02, warmup_seconds=0.01, min_runs=5)
RUNNER = Path(runner.__file__)
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="session")
def host() -> Target:
    return targets.load("host")


@pytest.fixture
def onnx(bars_made: Path) -> Artifact:
    return Store(bars_made).get("onnx")


@pytest.fixture
def data(members: None) -> SampleSet:
    return sets.take(named_sets.load("bars:test"), 70)


# --- execute --------------------------------------------------------------------------------------------------------


def test_a_run_holds_outputs_times_and_facts(onnx: Artifact, host: Target, data: SampleSet) -> None:
    run = execute(onnx, host, data, QUICK)
    assert (run.artifact, run.target, run.runtime, run.provenance) == ("onnx", "host", "onnxruntime", "measured")
    assert run.outputs["output"].shape == (70, 4), "70 samples are not a multiple of the batch"
    assert len(run.processes) == 2
    for process in run.processes:
        assert len(process.times_ns) >= 5 and min(process.times_ns) > 0
        assert process.load_ms > 0 and process.first_ms > 0 and process.warmups > 0
        assert process.peak_rss_bytes >= process.floor_rss_bytes > 10_000_000
    assert {"cpu", "cores", "isa", "runtime_version", "python", "numpy"} <= set(run.facts)


def test_only_what_was_asked_for(onnx: Artifact, host: Target, data: SampleSet) -> None:
    assert execute(onnx, host, data, QUICK, latency=False).processes == ()
    assert execute(onnx, host, data, QUICK, outputs=False).outputs == {}
    few = execute(onnx, host, data, replace(QUICK, samples=9), latency=False)
    assert len(few.outputs["output"]) == 9


def test_processes_are_interleaved(
    bars_made: Path, host: Target, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.devices.local import Local

    seen: list[tuple[str, bool]] = []
    real = Local.run

    def spy(self: Local, job: Any, out: Path) -> Any:
        seen.append((job.artifact.name, job.latency))
        return real(self, job, out)

    monkeypatch.setattr(Local, "run", spy)
    monkeypatch.setattr("edgekit.measure.execute._disturbance", lambda *_: "")
    store = Store(bars_made)
    pairs = [(store.get(name), "onnxruntime") for name in ("onnx", "onnx-int8")]
    execute_all(pairs, host, data, QUICK)
    timed, outputs = [("onnx", True), ("onnx-int8", True)], [("onnx", False), ("onnx-int8", False)]
    assert seen == [*timed, *outputs, *timed], "the first round tells how long the others take"


def test_a_disturbed_process_is_retried_then_marked(
    onnx: Artifact, host: Target, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads do not compute more slowly when preempted: they wait for each other, so CPU time says nothing."""
    answers = iter(["busy", "busy", "", "busy", "busy", "busy", "busy"])
    monkeypatch.setattr("edgekit.measure.execute._disturbance", lambda *_: next(answers))
    run = execute(onnx, host, data, replace(QUICK, threads=2), outputs=False)
    assert len(run.invalid) == 1 and "busy" in run.invalid[0]
    assert len(run.processes) == 2
    assert next(answers, None) is None, "it did not try three times more"


def test_on_a_busy_machine_the_cpu_time_of_one_thread_is_taken(
    bars_made: Path, host: Target, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an end each process would be repeated; once the CPU times of the session are taken, none is."""
    asked: list[str] = []

    def busy(result: dict[str, Any], plan: Any) -> str:
        asked.append("")
        result["steady"] = True
        return "CPU contention" if len(asked) > 1 else ""

    monkeypatch.setattr("edgekit.measure.execute._disturbance", busy)
    store = Store(bars_made)
    runs = execute_all([(store.get(n), "onnxruntime") for n in ("onnx", "onnx-int8")], host, data, QUICK, outputs=False)
    assert [run.clock for run in runs] == ["cpu", "cpu"] and not any(run.invalid for run in runs)
    assert all("CPU contention" in run.contention for run in runs)
    assert len(asked) == 2 * QUICK.processes + execute_module.MOST_REPEATED
    for run in runs:
        assert all(len(process.cpu_ns) == len(process.times_ns) for process in run.processes)
        latency = statistics.latency(run.processes, 1, 1, run.clock)
        assert latency.clock == "cpu" and latency.per_process_p50 == latency.per_process_cpu
        assert latency.p50 == pytest.approx(np.median(np.concatenate([p.cpu_ns for p in run.processes])) / 1e6)


@pytest.mark.parametrize("why", [{"steady": False}, {"throttled": 2}, {"cpu_ns": []}])
def test_cpu_time_is_not_taken_from_what_was_slow_itself(why: dict[str, Any]) -> None:
    result = {"steady": True, "cpu_ns": [1], "watch": {"throttled": 0}}
    assert execute_module._cpu_time_counts(result, QUICK)
    result |= {name: value for name, value in why.items() if name != "throttled"}
    result["watch"] = {"throttled": why.get("throttled", 0)}
    assert not execute_module._cpu_time_counts(result, QUICK)


def test_nothing_is_left_behind(
    onnx: Artifact, host: Target, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    execute(onnx, host, data, QUICK, latency=False)
    wrong = replace(data, inputs={"input": np.zeros((3, 7), np.float32)})
    with pytest.raises(InputError):
        execute(onnx, host, wrong, QUICK)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_executed(onnx: Artifact, host: Target, data: SampleSet, bars_run: Path) -> None:
    with pytest.raises(InputError, match="no runtime for onnx"):
        execute(onnx, replace(host, runtimes={"torch": ""}), data, QUICK)
    with pytest.raises(InputError, match="is empty"):
        execute(onnx, host, SampleSet("none", {"input": np.zeros((0, 1, 20, 20))}, None, ""), QUICK)
    with pytest.raises(DeviceError, match="took too long") as caught:
        execute(onnx, host, data, replace(QUICK, timeout=0.05))
    assert caught.value.next.startswith("use --quick, or allow more time in a recipe: edgekit run")
    damaged = Store(bars_run).get("onnx")
    (damaged.path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot load onnx in onnxruntime"):
        execute(damaged, host, data, QUICK)


def test_a_runner_that_dies_is_a_device_that_failed(
    onnx: Artifact, host: Target, data: SampleSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for text, said in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise SystemExit('something odd')", "something odd"),
    ):
        path = tmp_path / "runner.py"
        path.write_text(text)
        monkeypatch.setattr("edgekit.devices.local.RUNNER", path)
        with pytest.raises(DeviceError) as error:
            execute(onnx, host, data, QUICK)
        assert error.value.code == 4
        assert said in str(error.value)


def test_which_runtimes_take_it(onnx: Artifact, host: Target, bars_made: Path) -> None:
    assert runtimes_for(onnx, host)[0] == "onnxruntime"
    assert "torch" in runtimes_for(Store(bars_made).get("torch"), host)
    assert runtimes_for(onnx, targets.load("null")) == ("null",)


# --- the runner, with a runtime made for the test -------------------------------------------------------------------

FAKE = '''
import json, os
import numpy as np

class Fake:
    """Echoes its inputs as outputs, and notes every feed."""
    @staticmethod
    def prepare_imports():
        if os.environ.get("FAKE_MISSING"):
            raise ImportError("no fake here")
    def __init__(self, model, threads, precision, specs):
        if not open(model, "rb").read().startswith(b"fake"):
            raise ValueError("not a fake model\\nbut something else")
        self.inputs, self.outputs = specs["inputs"], specs["outputs"]
        self.made = (threads, precision)
        self.feeds = []
    def bind(self, feeds):
        self.feeds.append({k: (v.dtype.name, v.shape) for k, v in feeds.items()})
        Fake.seen = self.feeds
        if os.environ.get("FAKE_MEMORY"):
            raise MemoryError
        return lambda: list(feeds.values())
    def facts(self):
        return {"runtime_version": "1", "threads": self.made[0], "precision": self.made[1]}
'''

Result = Callable[..., dict[str, Any]]


@pytest.fixture
def fake(tmp_path: Path) -> Result:
    """Run a job with the echoing runtime over arrays; outputs come back as arrays."""
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "model.bin").write_bytes(b"fake model")

    def call(specs: list[dict[str, Any]], given: dict[str, np.ndarray], **changes: Any) -> dict[str, Any]:
        paths = {}
        for index, (name, array) in enumerate(given.items()):
            paths[name] = str(tmp_path / f"in{index}.npy")
            np.save(paths[name], array)
        job = {
            "runtime_file": str(tmp_path / "fake.py"),
            "runtime_class": "Fake",
            "model": str(tmp_path / "model.bin"),
            "specs": {"inputs": specs, "outputs": specs},
            "inputs": paths,
            "threads": 1,
            "precision": "fp32",
            "outputs": {"folder": str(tmp_path), "batch": 4},
            "latency": None,
            **changes,
        }
        (tmp_path / "job.json").write_text(json.dumps(job))
        runner.main(str(tmp_path / "job.json"), str(tmp_path / "result.json"))
        result: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
        if result.get("outputs"):
            result["arrays"] = {name: np.load(path) for name, path in result["outputs"].items()}
        return result

    return call


def spec(name: str = "x", dtype: str = "float32", shape: Any = (None, 3), **more: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), **more}


@given(st.integers(1, 23), st.none() | st.integers(1, 9), st.integers(1, 9))
@relaxed
def test_every_sample_comes_back_in_order(
    fake: Result, tmp_path: Path, count: int, fixed: int | None, batch: int
) -> None:
    """Whatever the number of samples and the batch, fixed or not; the last one is padded where it must be."""
    x = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    result = fake([spec(shape=(fixed, 3))], {"x": x}, outputs={"folder": str(tmp_path), "batch": batch})
    assert result["error"] is None
    assert np.array_equal(result["arrays"]["x"], x)


def test_the_last_batch_is_padded_only_where_the_model_insists(fake: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    load = runner.load_class
    for fixed, sizes in ((None, [2, 1, 4, 4, 2]), (4, [4, 4, 4]), (1, [1] * 10), (16, [16])):
        loaded: list[Any] = []
        monkeypatch.setattr(runner, "load_class", lambda *words, to=loaded: to.append(load(*words)) or to[0])
        fake([spec(shape=(fixed, 3))], {"x": x})
        assert [feed["x"][1][0] for feed in loaded[0].seen] == sizes


@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-300, 300, width=32)),
    st.sampled_from(["int8", "uint8", "int16"]),
    st.floats(0.01, 3),
    st.integers(-100, 100),
)
@relaxed
def test_quantized_tensors(fake: Result, x: np.ndarray, dtype: str, scale: float, zero_point: int) -> None:
    """In: rounded to scale * (stored - zero point) and clipped; out: real numbers again."""
    limits = np.iinfo(dtype)
    zero_point = int(np.clip(zero_point, limits.min, limits.max))
    made = spec(dtype=dtype, shape=(None, x.shape[1]), quantization=[scale, zero_point])
    result = fake([made], {"x": x})
    assert result["error"] is None
    got = result["arrays"]["x"]
    assert got.dtype == np.float32
    low, high = (scale * (limit - zero_point) for limit in (limits.min, limits.max))
    expected = np.clip(x.astype(np.float64), low, high)
    assert np.abs(got - expected).max() <= scale * 0.5001 + 1e-3, "it did not round to the nearest"


def test_rounding_is_to_even_as_runtimes_do() -> None:
    stored = runner.as_input(
        np.array([[0.5, 1.5, 2.5, -0.5, -1.5]], np.float32), spec(dtype="int8", shape=(None, 5), quantization=[1.0, 0])
    )
    assert stored.tolist() == [[0, 2, 2, 0, -2]]


def test_integers_are_cast_not_scaled(fake: Result) -> None:
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    result = fake([spec()], {"x": x})
    assert result["arrays"]["x"].dtype == np.float32
    assert np.array_equal(result["arrays"]["x"], x)


def test_names_are_matched_or_both_lists_are_shown(fake: Result) -> None:
    x, y = np.ones((5, 3), np.float32), np.zeros((5, 3), np.float32)
    assert fake([spec("model_name")], {"set_name": x})["error"] is None, "one to one needs no name"
    two = [spec("a"), spec("b")]
    result = fake(two, {"b": y, "a": x})
    assert result["arrays"]["a"].sum() == 15 and result["arrays"]["b"].sum() == 0
    refused = fake(two, {"a": x, "c": y})["error"]
    assert refused["kind"] == "input"
    assert "the model takes a, b; the samples hold a, c" in refused["what"]
    assert fake([spec("a")], {"a": x, "b": y})["error"]["kind"] == "input"


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 3, 1), (5, 0)])
def test_shapes_that_do_not_fit(fake: Result, shape: tuple[int, ...]) -> None:
    refused = fake([spec()], {"x": np.ones(shape, np.float32)})["error"]
    assert refused["kind"] == "input"
    assert "x takes [3] per sample" in refused["what"]


def test_models_and_packages_that_are_not_there(fake: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"x": np.ones((5, 3), np.float32)}
    (tmp_path / "bad.bin").write_bytes(b"no")
    refused = fake([spec()], x, model=str(tmp_path / "bad.bin"))["error"]
    assert refused == {"kind": "model", "what": "not a fake model but something else"}
    assert fake([spec()], x, model=str(tmp_path / "absent"))["error"]["kind"] == "model"
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_MISSING", "1")
        assert fake([spec()], x)["error"]["kind"] == "missing"
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_MEMORY", "1")
        assert fake([spec()], x)["error"]["kind"] == "memory"


def test_latency(fake: Result) -> None:
    latency = {"batch": 2, "seconds": 0.01, "warmup_seconds": 0.005, "min_runs": 7}
    result = fake([spec()], {"x": np.ones((5, 3), np.float32)}, outputs=None, latency=latency, threads=3)
    assert result["error"] is None
    assert len(result["times_ns"]) >= 7 and min(result["times_ns"]) >= 0
    assert (result["batch"], result["outputs"], result["facts"]["threads"]) == (2, {}, 3)
    assert result["warmups"] >= 1
    fixed = fake([spec(shape=(4, 3))], {"x": np.ones((5, 3), np.float32)}, outputs=None, latency=latency)
    assert fixed["batch"] == 4, "the model's own batch wins"


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]).flatmap(
            lambda d: arrays(d, array_shapes(min_dims=1, max_dims=3, max_side=4))
        ),
        min_size=1,
        max_size=3,
    ),
    st.lists(
        st.builds(
            spec,
            st.sampled_from("abc"),
            st.sampled_from(["float32", "int8", "int64", "bool"]),
            st.lists(st.none() | st.integers(1, 4), min_size=1, max_size=3),
            quantization=st.none() | st.tuples(st.floats(0.1, 2), st.integers(-5, 5)),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda s: s["name"],
    ),
)
@relaxed
def test_any_job_is_answered(fake: Result, samples: dict[str, np.ndarray], specs: list[dict[str, Any]]) -> None:
    """Outputs for every sample, or one refusal of a known kind; never an exception, never a short answer."""
    for one in specs:
        if one["dtype"] in ("float32", "bool"):
            one["quantization"] = None
    result = fake(specs, samples)
    if result["error"] is not None:
        assert result["error"]["kind"] in ("input", "run")
        assert result["error"]["what"] and "\n" not in result["error"]["what"]
        return
    count = min(len(array) for array in samples.values())
    assert {len(array) for array in result["arrays"].values()} == {count}


def test_the_runner_alone_is_enough(tmp_path: Path, fake: Result) -> None:
    """One file and the runtime's, in a Python that has never heard of edgekit."""
    fake([spec()], {"x": np.ones((5, 3), np.float32)})
    (tmp_path / "result.json").unlink()
    (tmp_path / "away").mkdir()
    alone = tmp_path / "away" / "runner.py"
    alone.write_bytes(RUNNER.read_bytes())
    code = (
        "import runpy, sys; sys.modules['edgekit'] = None; sys.argv = ['runner.py', *sys.argv[1:]]; "
        f"runpy.run_path({str(alone)!r}, run_name='__main__')"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "job.json"), str(tmp_path / "result.json")]
    subprocess.run(words, check=True, cwd=tmp_path / "away")
    assert json.loads((tmp_path / "result.json").read_text())["error"] is None


def test_the_runner_keeps_to_old_python() -> None:
    """Python 3.8 on a device reads it."""
    import ast

    for path in (RUNNER, *(RUNNER.parents[1] / "runtimes").glob("*.py")):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_errors_of_the_runner_have_their_exit_codes(
    onnx: Artifact, host: Target, data: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.devices.local import Local

    for kind, raised in (
        ("missing", Missing),
        ("memory", DeviceError),
        ("model", InputError),
        ("input", InputError),
        ("run", InputError),
    ):
        monkeypatch.setattr(Local, "run", lambda *_, kind=kind: {"error": {"kind": kind, "what": "why"}})
        with pytest.raises(EdgekitError) as error:
            execute(onnx, host, data, QUICK)
        assert isinstance(error.value, raised)


CALM = {"cpu_share": 1.0, "steal_share": 0.0, "throttled": 0, "load_average": 0.5}


@pytest.mark.parametrize(
    ("changed", "steady", "said"),
    [
        ({}, True, ""),
        ({"cpu_share": 0.5}, True, "CPU contention: preempted, with 50%"),
        ({"steal_share": 0.2}, True, "hypervisor took 20%"),
        ({"throttled": 3}, True, "thermal throttling"),
        ({}, False, "did not become stable"),
    ],
)
def test_what_disturbs_a_process_is_named(changed: dict[str, float], steady: bool, said: str) -> None:
    found = execute_module._disturbance({"watch": {**CALM, **changed}, "steady": steady}, QUICK)
    assert said in found and bool(found) == bool(said)


# --- samples on disk --------------------------------------------------------------------------------------------------


def test_a_set_that_lies_on_disk_is_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(60, dtype=np.float32).reshape(20, 3))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert execute_module._npy_file(mapped) == (tmp_path / "a.npy").resolve()
    for other in (mapped[:7], mapped[::-1], mapped.T, mapped[:, :2], mapped.reshape(10, 6), np.array(mapped)):
        assert execute_module._npy_file(other) is None
    raw = np.memmap(tmp_path / "a.npy", np.uint8, "r", shape=(20,))
    assert execute_module._npy_file(raw) is None


@given(
    arrays(
        st.sampled_from([np.float32, np.int64, np.bool_, np.uint8]), array_shapes(min_dims=1, max_dims=3, max_side=9)
    ),
    st.integers(1, 64),
)
@relaxed
def test_what_is_written_in_parts_is_the_same(tmp_path: Path, x: np.ndarray, part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute_module, "PART_BYTES", part)
        for array in (x, x[::2], np.asfortranarray(x), x[:0]):
            found = np.load(execute_module._write_npy(array, tmp_path / "x.npy"))
            assert found.dtype == array.dtype and found.shape == array.shape
            assert found.tobytes() == array.tobytes()


def test_memory_does_not_grow_with_the_samples(tmp_path: Path, fake: Result) -> None:
    """A runner of its own over 2 and over 80 MB of samples, and as many of outputs."""
    peaks = []
    for count in (500, 20_000):
        fake([spec(shape=(None, 1000))], {"x": np.zeros((count, 1000), np.float32)})
        words = [sys.executable, str(RUNNER), str(tmp_path / "job.json"), str(tmp_path / "result.json")]
        subprocess.run(words, check=True)
        result = json.loads((tmp_path / "result.json").read_text())
        assert result["error"] is None
        peaks.append(result["peak_rss_bytes"])
    assert peaks[1] < peaks[0] + 20_000_000


def test_large_outputs_stay_on_disk(
    onnx: Artifact, host: Target, data: SampleSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = execute(onnx, host, data, QUICK, latency=False).outputs["output"]
    monkeypatch.setattr(execute_module, "LARGE_BYTES", 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = execute(onnx, host, data, QUICK, latency=False).outputs["output"]
    assert isinstance(found, np.memmap) and not list(tmp_path.iterdir())
    assert np.array_equal(found, whole)
