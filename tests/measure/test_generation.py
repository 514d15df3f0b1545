"""A decoder from training to the device: states in every format, requests, generated text, a bundle, refusals."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import QUICK_PLAN, run_cli

from edgekit.core import statistics
from edgekit.core.artifact import Artifact, Kind, Sizes, State, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.measurement import Process
from edgekit.core.target import Plan
from edgekit.measure import generation, targets, verify
from edgekit.measure.execute import execute, execute_steps
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set

for package in ("torch", "onnx", "onnxruntime", "openvino", "tokenizers"):
    pytest.importorskip(package)

pytestmark = pytest.mark.slow

RECIPE = """
task = "language-modelling?data=texts.txt&length=16&words=300&windows=8"

[train]
model = "decoder"
width = 0.25
epochs = 2
batch = 16

[[chain]]
steps = ["train", "to_onnx", "onnx_dynamic"]

[[chain]]
steps = ["train", "to_openvino"]

[gates]
max_drop_pp = 50.0
"""
PLAN = QUICK_PLAN + "prompt = 5\nnew_tokens = 6\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    texts = [f"the {w} number {i} of the {w} list is {i * i} and no more" for i in range(80) for w in ("red", "old")]
    (folder / "texts.txt").write_text("\n\n".join(texts))
    (folder / "lm.toml").write_text(RECIPE + PLAN)
    ended = run_cli("run", "lm.toml", "--out", "lm", cwd=folder)
    assert ended.code == 0, ended.err
    return folder / "lm"


def artifact(run: Path, name: str) -> Artifact:
    return Store(run).get(name)


@pytest.mark.parametrize("name", ["torch", "onnx", "onnx-dynamic", "openvino"])
def test_states_are_apart(run: Path, name: str) -> None:
    model = artifact(run, name)
    assert [spec.name for spec in model.inputs] == ["tokens"] and len(model.outputs) == 1
    assert [state.input.name for state in model.states][:2] == ["past_key_values.0.key", "past_key_values.0.value"]
    assert [state.output.name for state in model.states][:2] == ["present.0.key", "present.0.value"]
    assert all(state.input.shape == (None, 2, None, 8) for state in model.states)
    assert len(model.file_inputs) == 9


@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
def test_a_request_is_greedy_decoding_without_a_cache(run: Path, name: str) -> None:
    model, host = artifact(run, name), targets.load("host")
    tokens = np.array([[5, 9, 30], [7, 8, 9]], np.int64)
    made = execute_steps(model, host, sample_set("prompts", {"tokens": tokens}, None), new_tokens=4)["tokens"]
    for step in range(4):
        outputs = execute(model, host, sample_set("p", {"tokens": tokens}, None), Plan(), latency=False).outputs
        following = next(iter(outputs.values()))[:, -1].argmax(axis=-1)
        assert made[:, step].tolist() == following.tolist()
        tokens = np.concatenate([tokens, following[:, None]], axis=1)


def test_checks_look_at_the_cache(run: Path) -> None:
    for name in ("torch", "onnx", "openvino"):
        finding = verify.read(artifact(run, name))
        assert finding and not finding.failed and finding.stepwise_db is not None and finding.stepwise_db > 100, name


def test_a_cache_that_is_not_that_of_the_model_fails_its_check(run: Path, tmp_path: Path) -> None:
    """The outputs of one call are right, and only those with the cache are wrong."""
    import onnx

    shutil.copytree(run, tmp_path / "lm")
    model = artifact(tmp_path / "lm", "onnx")
    graph = onnx.load(model.path / "model.onnx")
    pairs = {"past_key_values.0.key": "past_key_values.1.key", "past_key_values.1.key": "past_key_values.0.key"}
    for node in graph.graph.node:
        node.input[:] = [pairs.get(name, name) for name in node.input]
    onnx.save(graph, model.path / "model.onnx")
    verifier = verify.Verifier(
        Store(tmp_path / "lm"),
        targets.load("host"),
        sample_set("val", {"tokens": np.arange(64, dtype=np.int64).reshape(4, 16) % 90}, None),
        None,
        Gates(),
        Plan(),
    )
    finding = verifier.check(model, "outputs", artifact(tmp_path / "lm", "torch"))
    assert finding.failed == "parity" and "position by position" in finding.reason, finding


def test_measurements_tell_the_parts_of_a_request(run: Path) -> None:
    rows = run_cli("compare", str(run), "--json", cwd=run.parent).json["measurements"]
    assert {row["artifact"] for row in rows} == {"torch", "onnx", "onnx-dynamic", "openvino"}
    for row in rows:
        whole, parts = row["latency_ms"], row["generation"]
        assert (whole["prompt"], whole["new_tokens"]) == (5, 6)
        assert 0 < parts["first_token_ms"]["p50"] < whole["p50"] and parts["token_ms"]["p50"] > 0
        assert parts["cache_bytes"] == 4 * 2 * 2 * 10 * 8 * 4, "blocks, keys and values, groups, positions, size, bytes"
    text = run_cli("compare", str(run), cwd=run.parent).out
    assert "TTFT ms" in text and "tok/s" in text and "perplexity" in text
    assert "5 + 6 tokens" in text


def test_predict_generates_text(run: Path) -> None:
    ended = run_cli(
        "predict", str(run / "onnx"), "the red number", "the old", "--new-tokens", "3", "--json", cwd=run.parent
    )
    answers = ended.json["result"]
    assert [len(answer["outputs"]["tokens"]) <= 3 for answer in answers] == [True, True]
    assert answers[0]["input"] == "the red number"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "lm/onnx", "the red number of", "--new-tokens", "16"], "the context of onnx has 16"),
        (["bench", "lm/onnx", "--prompt", "16", "--new-tokens", "4"], "a prompt of 16 tokens and 4 new ones are 20"),
        (["export", "lm/torch", "--to", "tflite"], "its cache grows with the text"),
        (["quantize", "lm/onnx", "--int8", "--methods", "mse"], "mse cannot quantize onnx: it has states"),
    ],
    ids=["predict", "bench", "tflite", "int8"],
)  # fmt: skip
def test_what_is_refused(run: Path, words: list[str], message: str) -> None:
    ended = run_cli(*words, cwd=run.parent)
    assert ended.code != 0 and re.search(message, ended.err), ended.err


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_times_of_operators(run: Path, name: str) -> None:
    """OpenVINO keeps the states itself, and its profile takes the file as it is."""
    ended = run_cli("inspect", str(run / name), "--times", cwd=run.parent)
    assert ended.code == 0 and "MatMul" in ended.out, ended.err


def test_int8_without_ranges(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "lm")
    shutil.copyfile(run.parent / "texts.txt", tmp_path / "texts.txt")
    ended = run_cli("quantize", "lm/onnx", "--int8", "--json", cwd=tmp_path)
    (search,) = ended.json["result"]["searches"]
    assert {attempt["method"] for attempt in search["attempts"]} <= {"dynamic", "weight-only"}
    assert "is not calibrated: it has states" in ended.err


def test_a_cache_larger_than_the_memory_is_refused(run: Path) -> None:
    model = artifact(run, "onnx")
    with pytest.raises(InputError, match="whose cache takes"):
        generation.check(model, model, Plan(prompt=1000, new_tokens=1000), 1_000_000)
    generation.check(model, model, Plan(prompt=1000, new_tokens=1000), 0)  # the memory is not known


def test_the_cache_of_fixed_states() -> None:
    fixed = TensorSpec("h", "float32", (None, 4, 16))
    sizes = Sizes(1, 1, 0, 0)
    model = Artifact("m", "1", Kind("onnx"), "s", {}, (), "", (), (), sizes, {}, Path(), states=(State(fixed, fixed),))
    assert generation.cache_bytes(model, 3, 100) == 3 * 4 * 16 * 4


def test_parts_are_by_the_clock_of_the_request() -> None:
    """On a busy machine the wall time of a request is not that of its latency, and neither are its parts."""
    sizes = Sizes(1, 1, 0, 0)
    model = Artifact("m", "1", Kind("onnx"), "s", {}, (), "", (), (), sizes, {}, Path())
    processes = [Process((8_000_000, 4_000_000), 1.0, 1.0, 1, 1, 1, (4_000_000, 4_000_000), (2_000_000, 1_000_000))] * 3
    for clock, first, token in (("wall", 1.5, 1.125), ("cpu", 1.0, 0.75)):
        request = replace(statistics.latency(processes, 1, 1, clock), prompt=3, new_tokens=5)  # type: ignore[arg-type]
        found = generation.parts(model, processes, request)
        assert found and (found.first_token_ms.clock, found.token_ms.clock) == (clock, clock)
        assert found.first_token_ms.p50 == pytest.approx(first) and found.token_ms.p50 == pytest.approx(token)
    unknown = [replace(process, cpu_ns=()) for process in processes]
    assert generation.parts(model, unknown, request) is None


def test_a_bundle_keeps_its_states(run: Path, tmp_path: Path) -> None:
    for name in ("onnx", "openvino"):
        bundle = tmp_path / name
        ended = run_cli("deploy", str(run / name), "--target", "host", "--bundle", str(bundle), cwd=run.parent)
        assert ended.code == 0, ended.err
        assert json.loads(_program(bundle, "--check"))["ok"]
        np.save(tmp_path / "prompt.npy", np.array([5, 9, 30]))
        answer = json.loads(_program(bundle, str(tmp_path / "prompt.npy"), "--new-tokens", "4", "--json"))
        prompt = sample_set("p", {"tokens": np.array([[5, 9, 30]])}, None)
        there = execute_steps(artifact(run, name), targets.load("host"), prompt, new_tokens=4)["tokens"]
        assert answer["outputs"]["tokens"] == there[0].tolist()
        assert "text that follows a prompt" in (bundle / "README.md").read_text()
        assert not (bundle / "example.py").exists(), "it has no states"


def _program(bundle: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(bundle / "predict.py"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
