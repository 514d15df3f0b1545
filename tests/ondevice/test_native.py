"""The runner in C, on this machine: it answers as the runner in Python does, and refuses what that refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit import sets
from edgekit.core import registry
from edgekit.core.target import Plan
from edgekit.devices.shared import native
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.native import FLAGS, SOURCE
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.ondevice import runner as python_runner
from edgekit.ondevice.state import Stateful
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.runtimes.onnxruntime import Onnxruntime

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: sudo apt install gcc libc6-dev")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a warning."""
    made = tmp_path_factory.mktemp("native") / "runner"
    sources = sorted(map(str, SOURCE.glob("*.c")))
    command = ["cc", *FLAGS, "-Werror", "-o", str(made), *sources, "-ldl", "-lm"]
    subprocess.run(command, check=True)
    return made


def library(runtime: str) -> str:
    package, _, name = registry.runtime(runtime).library.partition("/")
    spec = find_spec(package)
    assert spec and spec.submodule_search_locations
    return str(next(Path(spec.submodule_search_locations[0]).glob(f"{name}*")))


def ran(
    runner: Path, folder: Path, runtime: str, model: Path, inputs: Mapping[str, NDArray[Any]], **more: object
) -> dict[str, Any]:
    """The result of one job, as JSON."""
    (folder / "out").mkdir(exist_ok=True)
    paths = {name: str(folder / f"in{place}.npy") for place, name in enumerate(inputs)}
    for name, array in inputs.items():
        np.save(paths[name], array)
    job = {"runtime": runtime, "library": library(runtime), "version": "of the test", "model": str(model), "threads": 1}
    job |= {"limit": 60, "inputs": paths, "outputs": {"folder": str(folder / "out")}, "latency": None, **more}
    (folder / "job.json").write_text(json.dumps(job))
    command = [runner, folder / "job.json", folder / "result.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    found: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    return found


@pytest.mark.parametrize("name", ["onnx", "onnx-int8", "tflite", "tflite-int8"])
def test_it_answers_as_the_runner_in_python(
    name: str, runner: Path, bars_formats: Path, members: None, tmp_path: Path
) -> None:
    artifact = Store(bars_formats).get(name)
    runtime = "litert" if name.startswith("tflite") else "onnxruntime"
    model = next(path for path in artifact.path.iterdir() if path.suffix in (".onnx", ".tflite"))
    data = sets.take(named_sets.load("bars:test"), 33)
    plan = {"batch": 1, "seconds": 0.05, "warmup_seconds": 0.01, "min_runs": 7}
    long = {"batch": 1, "seconds": 0.3, "window": 0.1}
    found = ran(runner, tmp_path, runtime, model, data.inputs, latency=plan, sustained=long)
    assert found["error"] is None
    here = execute(artifact, targets.load("host"), data, Plan(), runtime=runtime, latency=False).outputs
    assert set(found["outputs"]) == set(here)
    for output, path in found["outputs"].items():
        got = np.load(path)
        assert got.dtype == here[output].dtype
        if "int8" in name:
            assert np.array_equal(got, here[output])
        else:
            np.testing.assert_allclose(got, here[output], atol=1e-5 * np.abs(here[output]).max())
    assert len(found["times_ns"]) >= 7 and min(found["times_ns"]) > 0 and found["batch"] == 1
    assert found["peak_rss_bytes"] > found["floor_rss_bytes"] > 0
    assert len(found["sustained"]["p50_ms"]) == 3 and all(found["sustained"]["inferences"])


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_what_does_not_fit_is_refused(runtime: str, runner: Path, bars_formats: Path, tmp_path: Path) -> None:
    artifact = Store(bars_formats).get("onnx" if runtime == "onnxruntime" else "tflite")
    model = next(path for path in artifact.path.iterdir() if path.suffix in (".onnx", ".tflite"))
    wrong = ran(runner, tmp_path, runtime, model, {"input": np.zeros((3, 1, 20, 21), np.float32)})["error"]
    assert wrong["kind"] == "input" and "[1, 20, 20]" in wrong["what"] and "[1, 20, 21]" in wrong["what"]
    (tmp_path / "broken").write_bytes(b"no model at all")
    broken = ran(runner, tmp_path, runtime, tmp_path / "broken", {"input": np.zeros((3, 1, 20, 20), np.float32)})
    assert broken["error"]["kind"] == "model"
    other = "litert" if runtime == "onnxruntime" else "onnxruntime"
    missing = ran(runner, tmp_path, runtime, model, {"input": np.zeros(1)}, library=library(other))["error"]
    assert missing["kind"] == "missing"


def test_a_hung_job_ends_by_itself(runner: Path, bars_formats: Path, tmp_path: Path) -> None:
    model = next(Store(bars_formats).get("onnx").path.glob("*.onnx"))
    plan = {"batch": 1, "seconds": 600, "warmup_seconds": 0.01, "min_runs": 7}
    job = {
        "runtime": "onnxruntime",
        "library": library("onnxruntime"),
        "version": "",
        "model": str(model),
        "threads": 1,
    }
    np.save(tmp_path / "in.npy", np.zeros((3, 1, 20, 20), np.float32))
    job |= {"threads": 1, "limit": 1, "inputs": {"input": str(tmp_path / "in.npy")}, "outputs": None, "latency": plan}
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run([runner, tmp_path / "job.json", tmp_path / "result.json"], timeout=60)
    assert done.returncode == -signal.SIGALRM and not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("text", ["", "{", '{"runtime": 1}', '{"a": "\\u12"}', "[" * 100, '{"runtime": "torch"}'])
def test_a_damaged_job_is_no_crash(text: str, runner: Path, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(text)
    done = subprocess.run([runner, tmp_path / "job.json", tmp_path / "result.json"], capture_output=True, timeout=20)
    assert done.returncode == 2 and done.stderr


def test_a_link_is_put_in_place_of_another(runner: Path, tmp_path: Path) -> None:
    for id in ("one", "two"):
        (tmp_path / id).mkdir()
        subprocess.run([runner, "--link", id, tmp_path / "current"], check=True)
        assert (tmp_path / "current").resolve() == tmp_path / id
    assert subprocess.run([runner, "--link", "one", tmp_path / "no" / "where"], capture_output=True).returncode == 1


WORDS, SIZE = 11, 6
STATES = {"past": "present", "hidden": "hidden_next"}
SPECS = {"states": STATES}


def decoder(path: Path, batch: int | None = None, token: str = "INT64") -> Path:
    """Attention over a cache (batch, past, SIZE), and a GRU whose state (batch, SIZE) is fixed; states come first."""
    onnx = pytest.importorskip("onnx")
    make, types = onnx.helper, onnx.TensorProto
    random = np.random.default_rng(0)
    constants = {
        "table": random.normal(size=(WORDS, SIZE)).astype(np.float32),
        "head": random.normal(size=(SIZE, WORDS)).astype(np.float32),
        "w": random.normal(size=(1, 3 * SIZE, SIZE)).astype(np.float32),
        "r": random.normal(size=(1, 3 * SIZE, SIZE)).astype(np.float32),
        "zero": np.array([0]),
        "one": np.array([1]),
        "least": np.array(-1e9, np.float32),
    }
    nodes = [
        ("Gather", "table tokens", "x", {}),
        ("Concat", "past x", "present", {"axis": 1}),
        ("Transpose", "present", "keys", {"perm": [0, 2, 1]}),
        ("MatMul", "x keys", "scores", {}),
        ("Shape", "past", "before", {"start": 1, "end": 2}),
        ("Squeeze", "before", "k", {}),
        ("Shape", "scores", "square", {"start": 1, "end": 3}),
        ("ConstantOfShape", "square", "ones", {"value": make.make_tensor("", types.INT64, [1], [1])}),
        ("Trilu", "ones k", "seen_", {"upper": 0}),
        ("Cast", "seen_", "seen", {"to": types.BOOL}),
        ("Where", "seen scores least", "masked", {}),
        ("Softmax", "masked", "shares", {"axis": -1}),
        ("MatMul", "shares present", "attended", {}),
        ("Transpose", "x", "by_time", {"perm": [1, 0, 2]}),
        ("Unsqueeze", "hidden zero", "hidden_", {}),
        ("GRU", "by_time w r   hidden_", "y last", {"hidden_size": SIZE}),
        ("Squeeze", "last zero", "hidden_next", {}),
        ("Squeeze", "y one", "y_", {}),
        ("Transpose", "y_", "recurrent", {"perm": [1, 0, 2]}),
        ("Add", "attended recurrent", "features", {}),
        ("MatMul", "features head", "logits", {}),
    ]
    first = batch or "n"
    cache, fixed = (first, None, SIZE), (first, SIZE)

    def value(name: str, kind: int, shape: tuple[int | str | None, ...]) -> Any:
        return make.make_tensor_value_info(name, kind, shape)

    graph = make.make_graph(
        [make.make_node(kind, ins.split(" "), outs.split(), **more) for kind, ins, outs, more in nodes],
        "decoder",
        [
            value("past", types.FLOAT, cache),
            value("tokens", getattr(types, token), (first, "length")),
            value("hidden", types.FLOAT, fixed),
        ],
        [
            value("present", types.FLOAT, cache),
            value("logits", types.FLOAT, (first, "length", WORDS)),
            value("hidden_next", types.FLOAT, fixed),
            value("features", types.FLOAT, (first, "length", SIZE)),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("batch", "token", "shape"),
    [(None, "INT64", (5, 7)), (2, "INT64", (5, 7)), (None, "INT32", (3, 7)), (None, "INT64", (3, 2, 7))],
    ids=["open", "fixed batch", "int32", "whole inputs"],
)
def test_states_are_kept_as_the_runner_in_python_keeps_them(
    batch: int | None, token: str, shape: tuple[int, ...], runner: Path, tmp_path: Path
) -> None:
    model = decoder(tmp_path / "model.onnx", batch, token)
    tokens = np.random.default_rng(1).integers(0, WORDS, shape)
    session = Stateful(Onnxruntime(str(model), 1, "fp32", {}), SPECS)
    forms = {"whole": {}, "steps": {"stepwise": 3}, "beyond": {"stepwise": 9}, "new": {"new_tokens": 5}}
    there: dict[str, dict[str, NDArray[Any]]] = {}
    for form, wanted in forms.items():
        outputs = {"folder": str(tmp_path / "out"), **wanted}
        found = ran(runner, tmp_path, "onnxruntime", model, {"tokens": tokens}, specs=SPECS, outputs=outputs)
        assert found["error"] is None, found
        there[form] = {name: np.load(path) for name, path in found["outputs"].items()}
        here = session.generating(5) if form == "new" else session.stepwise(3) if form == "steps" else session
        (tmp_path / "here").mkdir(exist_ok=True)
        feeds = python_runner.match_inputs(here.inputs, {"tokens": tokens})
        paths = python_runner.all_outputs(here, feeds, str(tmp_path / "here"), 1)
        assert list(there[form]) == list(paths), "in the model's order"
        for name, path in paths.items():
            expected = np.load(path)
            assert there[form][name].dtype == expected.dtype
            if form == "new":
                assert np.array_equal(there[form][name], expected)
            else:
                np.testing.assert_allclose(there[form][name], expected, atol=1e-5)
    assert list(there["whole"]) == ["logits", "features"]
    assert there["new"]["tokens"].dtype == np.int64 and len(np.unique(there["new"]["tokens"])) > 2
    for name, whole in there["whole"].items():
        np.testing.assert_allclose(there["steps"][name], whole, atol=1e-5)
        np.testing.assert_allclose(there["beyond"][name], whole, atol=1e-5)


def test_many_states_and_logits_of_half_precision(runner: Path, tmp_path: Path) -> None:
    """The logits are of (token + sum of the states) modulo WORDS; each call adds its tokens to each state."""
    onnx = pytest.importorskip("onnx")
    make, types, count = onnx.helper, onnx.TensorProto, 70
    befores, afters = ([f"{place}.{index}" for index in range(count)] for place in ("before", "after"))
    nodes = [
        make.make_node("Concat", befores, ["all"], axis=1),
        make.make_node("ReduceSum", ["all", "axis"], ["total"]),
        make.make_node("Add", ["tokens", "total"], ["sums"]),
        make.make_node("Mod", ["sums", "words"], ["best"]),
        make.make_node("OneHot", ["best", "words", "values"], ["logits"]),
        make.make_node("ReduceSum", ["tokens", "axis"], ["more"]),
        *(make.make_node("Add", [a, "more"], [b]) for a, b in zip(befores, afters, strict=True)),
    ]
    sides = [[make.make_tensor_value_info(n, types.INT64, ("n", 1)) for n in names] for names in (befores, afters)]
    tokens = make.make_tensor_value_info("tokens", types.INT64, ("n", "length"))
    logits = make.make_tensor_value_info("logits", types.FLOAT16, ("n", "length", WORDS))
    constants = {"axis": np.array([1]), "words": np.array(WORDS), "values": np.array([-2, -1], np.float16)}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = make.make_graph(nodes, "many", [*sides[0], tokens], [logits, *sides[1]], weights)
    opset = [make.make_opsetid("", 17)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    prompt = [[3, 4], [10, 9], [0, 1]]
    outputs = {"folder": str(tmp_path / "out"), "new_tokens": 4}
    specs = {"states": dict(zip(befores, afters, strict=True))}
    inputs = {"tokens": np.array(prompt)}
    found = ran(runner, tmp_path, "onnxruntime", tmp_path / "model.onnx", inputs, specs=specs, outputs=outputs)
    for row, made in zip(prompt, np.load(found["outputs"]["tokens"]).tolist(), strict=True):
        for place in range(4):
            read = row + made[:place]
            seen = sum(read[:-1]) if place else 0
            assert made[place] == (read[-1] + count * seen) % WORDS


def test_requests_are_timed(runner: Path, tmp_path: Path) -> None:
    model = decoder(tmp_path / "model.onnx")
    plan = {"batch": 2, "seconds": 0.05, "warmup_seconds": 0.01, "min_runs": 3, "prompt": 9, "new_tokens": 30}
    long = {"batch": 2, "seconds": 0.2, "window": 0.1, "prompt": 9, "new_tokens": 30}
    tokens = {"tokens": np.arange(35).reshape(5, 7) % WORDS}
    found = ran(runner, tmp_path, "onnxruntime", model, tokens, specs=SPECS, latency=plan, sustained=long)
    assert found["error"] is None and found["batch"] == 2
    assert len(found["times_ns"]) == len(found["cpu_ns"]) == len(found["first_token_ns"]) >= 3
    assert all(0 < first < whole for first, whole in zip(found["first_token_ns"], found["times_ns"], strict=True))
    assert 2 * np.median(found["first_token_ns"]) < np.median(found["times_ns"])
    assert all(found["sustained"]["inferences"])
    assert set(found["outputs"]) == {"logits", "features"}


def test_a_prediction_of_a_model_with_states_is_tokens(runner: Path, tmp_path: Path) -> None:
    model, prompts = decoder(tmp_path / "model.onnx"), np.array([[1, 2, 3], [7, 0, 4]])
    np.save(tmp_path / "prompts.npy", prompts)
    job = {"runtime": "onnxruntime", "library": library("onnxruntime"), "version": "", "model": str(model)}
    job |= {"specs": SPECS, "outputs": {"new_tokens": 5}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    session = Stateful(Onnxruntime(str(model), 1, "fp32", {}), SPECS)
    for count in ("", "8"):
        command = [runner, "--predict", tmp_path / "job.json", tmp_path, tmp_path / "prompts.npy"]
        subprocess.run(command, check=True, env={"NEW_TOKENS": count} if count else {})
        tokens, _ = session.request({"tokens": prompts}, int(count or 5))
        assert np.array_equal(np.load(tmp_path / "output0.npy"), tokens)
    for wrong in ("0", "many", "-3", "99999999999999999999", "3x"):
        subprocess.run(command, check=True, env={"NEW_TOKENS": wrong})
        assert json.loads((tmp_path / "result.json").read_bytes())["error"]["kind"] == "input", wrong


def test_states_that_do_not_fit_are_refused(runner: Path, bars_formats: Path, tmp_path: Path) -> None:
    model, tokens = decoder(tmp_path / "model.onnx"), {"tokens": np.zeros((3, 4), np.int64)}

    def error(model: Path, inputs: Mapping[str, NDArray[Any]], runtime: str = "onnxruntime", **more: object) -> Any:
        return ran(runner, tmp_path, runtime, model, inputs, **more)["error"]

    for states in ({"past": "present", "gone": "hidden_next"}, {"past": "present", "hidden": "gone"}):
        assert error(model, tokens, specs={"states": states})["kind"] == "model"
    assert error(model, tokens)["kind"] == "input", "the states are inputs that the samples lack"
    folder, image = str(tmp_path / "out"), {"input": np.zeros((3, 1, 20, 20), np.float32)}
    steps = {"folder": folder, "stepwise": 2}
    empty = {"tokens": np.zeros((3, 0), np.int64)}
    assert error(model, empty, specs=SPECS, outputs=steps)["kind"] == "input"
    assert error(model, {"tokens": np.full((3, 4), WORDS)}, specs=SPECS)["kind"] == "run", "no such token"
    plain = next(Store(bars_formats).get("onnx").path.glob("*.onnx"))
    assert error(plain, image, outputs=steps)["kind"] == "input", "it has no states"
    tflite = next(Store(bars_formats).get("tflite").path.glob("*.tflite"))
    refused = error(tflite, image, "litert", specs={"states": {"a": "b"}})
    assert refused["kind"] == "model" and "ONNX Runtime only" in refused["what"]


def test_a_phone_needs_what_only_android_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """No glibc: neither this machine's compiler nor a wheel's library will do, and the way out is named."""
    from edgekit.core.errors import InputError, Missing
    from edgekit.core.target import Target
    from edgekit.devices.shared.facts import parse_facts

    facts: Facts = parse_facts({"uname": "Linux\n5.10\naarch64"})
    monkeypatch.delenv("EDGEKIT_ANDROID_CC", raising=False)
    with pytest.raises(Missing) as missing:
        native.runner(facts)
    assert missing.value.code == 3 and "EDGEKIT_ANDROID_CC" in missing.value.next
    phone = Target("phone", "", "adb", runtimes={"onnxruntime": ""}, address="123")
    with pytest.raises(InputError, match="Android build") as error:
        native.library(phone, facts, "onnxruntime")
    assert "--library onnxruntime=PATH" in error.value.next
    with pytest.raises(InputError, match="openvino does not run"):
        native.check_supported("openvino", "phone")


def test_the_table_of_onnxruntime_is_that_of_its_header() -> None:
    """The places in its C API that the runner counts on, against the real header where it is installed."""
    import os
    import re

    folder = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    header = next((p for p in (folder / "onnxruntime_c_api.h",) if p.is_file()), None)
    if header is None:
        assert not os.environ.get("CI"), "CI has the header"
        pytest.skip("needs ONNX Runtime's C header (Debian 13: libonnxruntime-dev)")
    table = header.read_text().partition("struct OrtApi {")[2].partition("\n};")[0]
    entry = re.compile(r"ORT_API2_STATUS\((\w+)|ORT_CLASS_RELEASE\((\w+)\)|\(ORT_API_CALL\s*\*\s*(\w+)\)")
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", table, flags=re.S)
    names = [m[1] or (f"Release{m[2]}" if m[2] else m[3]) for m in entry.finditer(text)]
    ours = (SOURCE / "onnxruntime.c").read_text()
    for name, place in re.findall(r"^    (\w+) = (\d+),$", ours, re.MULTILINE):
        assert names[int(place)] == name
