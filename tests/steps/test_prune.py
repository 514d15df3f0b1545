"""Pruning: cut, taught by what it was, rebuilt as it was written, taken by every step after it; and what is refused."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Ended

from edgekit import networks
from edgekit.compression.pruning_goals import SPEEDUPS_FILE
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context, StepResult
from edgekit.networks.tracing import example
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.steps.prune import Prune, _TimedRatioSearch
from edgekit.steps.train import Train

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytestmark = pytest.mark.usefixtures("members")
#: the network of bars has layers of eight channels
QUICK = Prune(ratio=0.5, round_to=2, epochs=1, lr=0.005, batch=64, samples=256, accelerator="cpu")


@pytest.fixture
def parent(bars_run: Path) -> Artifact:
    return Store(bars_run).get("torch")


@pytest.fixture
def prune(tmp_path: Path, parent: Artifact) -> Callable[..., tuple[StepResult, Path]]:
    """Apply a prune step to the network of bars; returns its notes and its folder."""
    count = 0

    def call(step: Prune, scratch: Path | None = None, **others: Artifact) -> tuple[StepResult, Path]:
        nonlocal count
        count += 1
        task = registry.load("tasks", "bars")()
        assert not list(step.check(task))
        data = {split: named_sets.load(f"bars:{split}") for split in ("train", "val")}
        out = tmp_path / f"out{count}"
        out.mkdir()
        context = Context(task, data, quiet, logging.getLogger("t"), scratch)
        return step.apply({"parent": parent, **others}, out, context), out

    return call


def accuracy(folder: Path) -> float:
    val = named_sets.load("bars:val")
    with torch.inference_mode():
        outputs = networks.load(folder)(torch.from_numpy(val.inputs["input"]).float())
    assert val.labels is not None
    return float((outputs.numpy().argmax(1) == val.labels).mean())


def test_half_of_the_channels(prune: Callable[..., tuple[StepResult, Path]], parent: Artifact) -> None:
    notes, out = prune(QUICK)
    found = notes.details["pruned"]
    assert found["ratio"] == 0.5 and found["macs"] < 0.4 and found["parameters"] < 0.4
    whole, cut = (networks.reference(folder)["tensors"] for folder in (parent.path, out))
    assert cut["features.0.weight"][1][0] * 2 == whole["features.0.weight"][1][0]
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.safetensors", "outputs.safetensors"]
    assert found["history"][-1]["val_accuracy"] == pytest.approx(accuracy(out), abs=0.005)
    assert accuracy(out) > 0.5, "four classes: chance is a quarter"


def test_the_teacher_is_left_alone(prune: Callable[..., tuple[StepResult, Path]], parent: Artifact) -> None:
    before = (parent.path / networks.WEIGHTS).read_bytes()
    taught, alone, again = (prune(dataclasses.replace(QUICK, distil=ways))[1] for ways in ("logits", "", "logits"))
    weights = [(folder / networks.WEIGHTS).read_bytes() for folder in (taught, alone, again)]
    assert weights[0] != weights[1], "the teacher made no difference"
    assert weights[0] == weights[2], "the same seed, other weights"
    assert (parent.path / networks.WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("goal", ["macs", "parameters"])
def test_a_share_that_may_stay(prune: Callable[..., tuple[StepResult, Path]], goal: str) -> None:
    step = dataclasses.replace(QUICK, ratio=0.0, epochs=0, round_to=1, **{goal: 0.5})
    found = prune(step)[0].details["pruned"]
    assert 0.3 < found[goal] <= 0.5


def test_taylor(prune: Callable[..., tuple[StepResult, Path]]) -> None:
    notes, out = prune(dataclasses.replace(QUICK, importance="taylor"))
    assert len(notes.details["pruned"]["history"]) == 1
    assert accuracy(out) > 0.4


def test_sparse_learning_of_scales(
    prune: Callable[..., tuple[StepResult, Path]], parent: Artifact, tmp_path: Path
) -> None:
    """The penalty makes BatchNorm's scales smaller than training without it does."""
    task = registry.load("tasks", "bars")()
    context = Context(
        task, {split: named_sets.load(f"bars:{split}") for split in ("train", "val")}, quiet, logging.root
    )
    (tmp_path / "ds").mkdir()
    Train(model="ds-cnn", epochs=1, samples=256, accelerator="cpu").apply({}, tmp_path / "ds", context)
    scaled = dataclasses.replace(parent, path=tmp_path / "ds")
    step = dataclasses.replace(QUICK, importance="bn-scale", sparse_epochs=2, epochs=0, ratio=0.25, lr=0.05)
    sizes = []
    for penalty in (1e-9, 10.0):
        notes, out = prune(dataclasses.replace(step, penalty=penalty), parent=scaled)
        assert len(notes.details["pruned"]["history"]) == 2
        norms = [m for m in networks.load(out).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        sizes.append(float(sum(norm.weight.abs().mean() for norm in norms)))
    assert sizes[1] < 0.9 * sizes[0]


def test_twice_is_as_far_as_once(prune: Callable[..., tuple[StepResult, Path]]) -> None:
    once, twice = (prune(dataclasses.replace(QUICK, rounds=n, round_to=1))[0].details["pruned"] for n in (1, 2))
    assert twice["parameters"] == pytest.approx(once["parameters"], rel=0.1)
    assert len(twice["history"]) == 2


@pytest.mark.slow
def test_speed_is_measured_beside_the_whole_network(parent: Artifact, tmp_path: Path) -> None:
    """In every format of the runtimes that were named, through the door; how much faster is no matter here."""
    step = dataclasses.replace(QUICK, ratio=0.0, speedup=1.5, target="host", runtimes=("onnxruntime", "openvino"))
    data = {"val": named_sets.load("bars:val")}
    context = Context(registry.load("tasks", "bars")(), data, quiet, logging.getLogger("t"))
    network, feed = networks.load(parent.path), example(parent).inputs
    found = _TimedRatioSearch(step, parent, network, feed, context, tmp_path)._speedups(0.5)
    assert list(found) == ["onnxruntime", "openvino"] and all(0.05 < ratio < 20 for ratio in found.values())
    assert (tmp_path / "0.50" / "onnx" / "model.onnx").stat().st_size < parent.sizes.total


def test_a_speed_out_of_reach(prune: Callable[..., tuple[StepResult, Path]], tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / SPEEDUPS_FILE).write_text('{"0.95": {"onnxruntime": 1.2}}')  # as measured before an interruption
    step = dataclasses.replace(QUICK, ratio=0.0, speedup=3.0, target="host", runtimes=("onnxruntime",), epochs=0)
    with pytest.raises(CannotConvert, match=r"3 times faster cannot be reached.*1\.20 times as fast in onnxruntime"):
        prune(step, scratch)


def test_what_is_no_runtime_of_the_target(prune: Callable[..., tuple[StepResult, Path]]) -> None:
    step = dataclasses.replace(QUICK, ratio=0.0, speedup=1.5, target="host", runtimes=("ncnn",), epochs=0)
    with pytest.raises(InputError, match="no runtime 'ncnn'"):
        prune(step)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ratio": 1.0}, "nothing would be left"),
        ({"ratio": 0.0}, "name one of ratio, macs, parameters, speedup"),
        ({"macs": 0.5}, "not ratio and macs"),
        ({"structure": "none"}, "no runtime here faster"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"epochs": -1}, "epochs must be 0 or more"),
        ({"sparse_epochs": 2}, "for importance = bn-scale"),
        ({"distil": "looks"}, "no distillation method 'looks'"),
        ({"lr": float("nan")}, "lr must be"),
        ({"penalty": 0.0}, "penalty must be"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str) -> None:
    step = dataclasses.replace(QUICK, **changes)
    assert said in "; ".join(step.check(registry.load("tasks", "bars")()))


def test_without_a_task() -> None:
    assert "no task to train on" in "; ".join(QUICK.check(None))
    assert not list(dataclasses.replace(QUICK, epochs=0).check(None))


def test_the_target_enters_only_where_it_matters() -> None:
    from edgekit.measure import targets

    host = targets.load("host")
    assert QUICK.resolve(host) == QUICK
    faster = dataclasses.replace(QUICK, ratio=0.0, speedup=1.5)
    assert faster.resolve(host).target == "host"


@pytest.mark.slow
def test_from_the_command_line(cli: Callable[..., Ended], bars_run: Path) -> None:
    """Pruned, then pruned again, exported and quantized as any other network."""
    quick = ("--samples", 256, "--epochs", 1, "--lr", 0.005, "--max-drop", 60)
    made = cli("prune", bars_run, "--ratio", 0.5, "--round-to", 4, *quick, "--json")
    assert made.code == 0, made.err
    assert [a["name"] for a in made.json["artifacts"]] == ["prune50.torch"]
    assert made.json["result"]["pruned"][0]["parameters"] < 0.5
    again = cli(
        "prune", bars_run / "prune50.torch", "--parameters", 0.7, "--round-to", 1, *quick, "--teacher", bars_run
    )
    assert again.code == 0, again.err
    store = Store(bars_run)
    twice = store.get("prune50-parameters70.torch")
    assert [(p.role, p.name) for p in twice.parents] == [("parent", "prune50.torch"), ("teacher", "torch")]
    assert store.root(twice).name == "torch"
    assert cli("export", twice.path, "--to", "onnx").code == 0
    int8 = cli("quantize", twice.path, "--int8", "--to", "onnx", "--max-drop", 60, "--methods", "min-max")
    assert int8.code == 0 or "is larger than the float model" in int8.err, "4 kB of weights, and the graph grows"
    assert store.get("prune50-parameters70.onnx-int8").sizes.weights < store.get("onnx").sizes.weights / 4


def test_a_missed_budget_keeps_what_was_made(cli: Callable[..., Ended], bars_run: Path) -> None:
    ended = cli("prune", bars_run, "--ratio", 0.9, "--round-to", 1, "--epochs", 0, "--max-drop", 0.1)
    assert ended.code == 1 and "points below torch" in ended.err and "Traceback" not in ended.err
    assert Store(bars_run).get("prune90.torch")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ratio", 1), "is not a share between 0 and 1"),
        ((), "name one of"),
        (("--ratio", 0.5, "--unstructured"), "no runtime here faster"),
        (("--speedup", "fast"), "is not a factor above 1"),
        (("--ratio", 0.02), "multiples of 8"),
    ],
)
def test_bad_words(cli: Callable[..., Ended], bars_run: Path, words: tuple[Any, ...], said: str) -> None:
    ended = cli("prune", bars_run, *words)
    assert ended.code in (1, 2) and said in ended.err.replace("\n", " ") and "Traceback" not in ended.err


def test_an_exported_file_cannot_be_pruned(cli: Callable[..., Ended], bars_run: Path) -> None:
    ended = cli("prune", bars_run / "onnx", "--ratio", 0.5)
    assert ended.code == 2 and "only a torch network can be pruned" in ended.err


def test_widths_that_were_meddled_with(prune: Callable[..., tuple[StepResult, Path]]) -> None:
    import json

    _, out = prune(dataclasses.replace(QUICK, epochs=0))
    reference = json.loads((out / networks.NETWORK).read_text())
    reference["widths"]["head.0"]["out_features"] = 1 << 40
    (out / networks.NETWORK).write_text(json.dumps(reference))
    with pytest.raises(InputError, match="do not fit"):
        networks.load(out)
