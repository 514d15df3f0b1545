"""Named networks on disk: a network whose code has changed is the same if its parameters and its outputs are."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import networks, sets
from edgekit.core import identity, registry
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.networks import named, sameness
from edgekit.networks.weights import load_weights, read_weights
from edgekit.runs import named_sets
from edgekit.runtimes.torch import Torch
from edgekit.steps.import_network import ImportNetwork
from edgekit.steps.train import Train

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("own_code")
CONTEXT = Context(None, {}, quiet, logging.getLogger("edgekit.tests"))

NET = '''"""A network of the user's own."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 10), nn.ReLU())
        self.fc = nn.Linear(10, classes)

    def forward(self, x):
        return self.fc(self.body(x))


def make():
    torch.manual_seed(0)
    return Net(), torch.zeros(2, 3, 4)
'''

Edit = Callable[[str, str], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The network, imported; `net.py` lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    out = tmp_path / "torch"
    out.mkdir()
    ImportNetwork("net.py:make").apply({}, out, CONTEXT)
    return out


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """Changes `net.py`; what Python imported of it is forgotten, as in the next process."""

    def change(old: str, new: str) -> None:
        path = tmp_path / "net.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        for name in [name for name in sys.modules if name.startswith("net_")]:
            del sys.modules[name]

    return change


def refusal(folder: Path) -> InputError:
    with pytest.raises(InputError, match=r"the weights of another version of the network 'net\.py:make'") as error:
        networks.load(folder)
    return error.value


def test_code_that_says_the_same_is_loaded_without_a_check(
    folder: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = networks.load(folder)(torch.ones(2, 3, 4))
    first = identity.of_member("models", "net.py:make")
    edit("class Net", "# a comment\nclass Net")
    edit('"""A network of', '"""The best network of')
    edit("nn.Linear(10, classes)", "nn.Linear(\n            10,\n            classes,\n        )")
    assert identity.of_member("models", "net.py:make") == first
    monkeypatch.setattr(sameness, "outputs_differ", lambda *_: pytest.fail("nothing is to be checked"))
    assert torch.equal(networks.load(folder)(torch.ones(2, 3, 4)), before)


def test_changed_code_that_computes_the_same(folder: Path, edit: Edit, caplog: pytest.LogCaptureFixture) -> None:
    before = networks.load(folder)(torch.ones(2, 3, 4))
    edit("return self.fc(self.body(x))", "hidden = self.body(x)\n        return self.fc(hidden)")
    with caplog.at_level(logging.INFO, "edgekit"):
        assert torch.equal(networks.load(folder)(torch.ones(2, 3, 4)), before)
    assert "has changed since" in caplog.text and "computes the same" in caplog.text
    bound = Torch(str(folder / "model.json"), 1, "fp32", {"inputs": [{"name": "x"}], "outputs": []})
    (answer,) = bound.bind({"x": torch.ones(2, 3, 4).numpy()})()
    assert torch.equal(torch.from_numpy(answer), before), "under the torch runtime too"


def test_changed_parameters_are_named(folder: Path, edit: Edit) -> None:
    edit("self.fc = nn.Linear(10, classes)", "self.fc = nn.Linear(10, classes + 1)")
    error = refusal(folder)
    assert error.why == "parameter fc.weight is (5, 10), was (4, 10), and 1 more differ"
    assert error.next.endswith(f"--model net.py:make --init {folder / 'model.safetensors'} --fresh fc")
    edit("self.fc = nn.Linear(10, classes + 1)", "self.fc = nn.Linear(10, classes, bias=False)")
    assert refusal(folder).why == "it has no parameter fc.bias any more"
    edit("self.fc = nn.Linear(10, classes, bias=False)", "self.fc = nn.Linear(10, classes); self.more = nn.PReLU()")
    error = refusal(folder)
    assert error.why == "parameter more.weight is new" and error.next.endswith("--fresh more")
    edit("; self.more = nn.PReLU()", ".double()")
    assert refusal(folder).why.startswith("parameter fc.weight is float64, was float32")


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("return 2 * self.fc(self.body(x))", r"its outputs on the example differ: 0\.0 dB"),
        ("return self.fc(self.body(x / 1.01))", r"its outputs on the example differ: \d\d\.\d dB"),
        ("return self.fc(self.body(x).clamp(max=0.1))", r"its outputs on the example differ: -?\d+\.\d dB"),
        ("return self.fc(self.body(x))[:, :3]", r"its output 'output' is \(2, 3\), was \(2, 4\)"),
        ("return {'a': self.fc(self.body(x)), 'b': x}", "its outputs are a, b, were output"),
        ("raise ValueError('no')", "it cannot be run on its example: ValueError: no"),
    ],
)
def test_another_forward_with_the_same_parameters(folder: Path, edit: Edit, new: str, said: str) -> None:
    edit("return self.fc(self.body(x))", new)
    error = refusal(folder)
    assert re.fullmatch(said, error.why), error.why
    assert error.next.endswith(f"--init {folder / 'model.safetensors'}")


def test_rounding_of_another_machine_is_no_other_network(folder: Path, edit: Edit) -> None:
    edit("return self.fc(self.body(x))", "return self.fc(self.body(x)) * (1 + 1e-6)")
    networks.load(folder)


def test_code_that_cannot_be_built_as_it_was(folder: Path, edit: Edit) -> None:
    edit("def make():", "def make(size):")
    assert "size" in refusal(folder).why


def test_without_the_outputs_nothing_is_taken_on_trust(folder: Path, edit: Edit) -> None:
    (folder / sameness.FILE).unlink()
    networks.load(folder)
    edit("return self.fc(self.body(x))", "return self.fc(self.body(+x))")
    assert "no outputs were kept" in refusal(folder).why


def test_what_is_kept_is_small_and_not_counted_as_the_model(folder: Path) -> None:
    from edgekit.formats.torch import Torch as Format

    assert (folder / sameness.FILE).stat().st_size < 2000
    files = [path for path in folder.iterdir() if path.name.startswith("model.")]
    assert Format.describe(folder / "model.json").sizes.total == sum(path.stat().st_size for path in files)


@pytest.mark.usefixtures("members")
def test_training_goes_on_from_the_weights_as_the_refusal_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = NET.replace("Linear(12, 10)", "Linear(400, 10)").replace("classes=4", "shape, classes, mean, std, widths")
    (tmp_path / "net.py").write_text(net)
    task = registry.load("tasks", "bars")()
    data = {"train": sets.take(named_sets.load("bars:train"), 64), "val": named_sets.load("bars:val")}
    context, step = Context(task, data, quiet, logging.getLogger("t")), Train(model="net.py:Net", epochs=1, batch=32)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    step.apply({}, first, context)
    (tmp_path / "net.py").write_text(net.replace("nn.Linear(10, classes)", "nn.Sequential(nn.Linear(10, classes))"))
    for name in [name for name in sys.modules if name.startswith("net_")]:
        del sys.modules[name]
    with pytest.raises(InputError) as error:
        networks.load(first)
    assert "it has no parameter fc.weight any more, and 3 more differ" in error.value.why
    words = error.value.next.partition("edgekit train ")[2].split()
    options = [(name.removeprefix("--"), value) for name, value in zip(words[::2], words[1::2], strict=True)]
    fresh = tuple(value for name, value in options if name == "fresh")
    fields = {name: value for name, value in options if name != "fresh"}
    again = Train(**fields, fresh=fresh, epochs=1, batch=32, lr=1e-9)
    assert not list(again.check(task))
    again.apply({}, second, context)
    old, new = (read_weights(out / networks.WEIGHTS) for out in (first, second))
    assert torch.allclose(old["body.1.weight"], new["body.1.weight"], atol=1e-6), "it started from other weights"


def test_words_and_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers are as varied as the tables allow, or those of the example; what is not deterministic stays so."""
    monkeypatch.chdir(tmp_path)

    class Words(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small = torch.nn.Embedding(500, 4), torch.nn.Embedding(3, 4)

        def forward(self, ids: Any, kinds: Any, mask: Any) -> Any:
            return (self.large(ids) + self.small(kinds)) * mask[..., None]

    registry.add("models", "words", Words)
    names = {"ids": "int64", "kinds": "int32", "mask": "bool"}
    specs = {"inputs": [{"name": name, "dtype": dtype, "shape": [None, None]} for name, dtype in names.items()]}
    kept = sameness.record(Words(), specs)
    assert len(kept["integers/ids"].unique()) == 16 and len(kept["integers/kinds"].unique()) == 2
    assert kept["shape/output"].tolist() == [2, 8, 4] and len(kept["unit/output"]) == 64
    example = {"ids": torch.full((2, 8), 499), "kinds": torch.zeros(2, 8, dtype=torch.int32)}
    assert torch.equal(sameness.record(Words(), specs, example)["integers/ids"], example["ids"])
    state = torch.random.get_rng_state()
    sameness.record(Words().train(), specs, example)
    assert sameness.record(torch.nn.Linear(3, 3), specs) == {}, "it takes no such inputs"
    assert not torch.equal(torch.random.get_rng_state(), state), "building draws"


def test_the_inputs_are_the_same_everywhere() -> None:
    specs = {"inputs": [{"name": "x", "dtype": "float32", "shape": [None, 3]}]}
    (unit,) = sameness.inputs(specs, "unit", {})
    (wide,) = sameness.inputs(specs, "wide", {})
    assert unit.shape == wide.shape == (2, 3)
    for place, (one, other) in enumerate(zip(unit.flatten().tolist(), wide.flatten().tolist(), strict=True), 1):
        mixed = place * 0x9E3779B97F4A7C15 % 2**64
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        share = (mixed >> 40) / 2**24
        assert (one, other) == (pytest.approx(2 * share - 1), pytest.approx(255 * share))


def test_a_pruned_network_of_changed_code(folder: Path, tmp_path: Path, edit: Edit) -> None:
    """Its widths do not fit the network that --init would fill."""
    reference = json.loads((folder / "model.json").read_text())
    network = networks.load(folder)
    inner = getattr(network, "network", network)
    with torch.no_grad():
        inner.body[1].out_features = inner.fc.in_features = 6
        inner.body[1].weight, inner.body[1].bias = (torch.nn.Parameter(p[:6]) for p in inner.body[1].parameters())
        inner.fc.weight = torch.nn.Parameter(inner.fc.weight[:, :6])
    out = tmp_path / "pruned"
    out.mkdir()
    specs = {key: reference[key] for key in ("inputs", "outputs", "example", "call", "axes")}
    widths = {"widths": {"body.1": {"out_features": 6}, "fc": {"in_features": 6}}}
    named.save(inner, "net.py:make", {}, {**specs, **widths}, out)
    edit("nn.ReLU()", "nn.ReLU(inplace=False)")
    assert networks.load(out)(torch.ones(2, 3, 4)).shape == (2, 4)
    edit("nn.ReLU(inplace=False)", "nn.GELU()")
    error = refusal(out)
    assert "its outputs on the example differ" in error.why and "--init" not in error.next
    load_weights(inner, out / "model.safetensors")
