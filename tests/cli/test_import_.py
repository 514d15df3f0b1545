"""`edgekit import`: every kind of foreign model into a run, and what is said where it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended
from outside import torchvision

from edgekit.cli import main
from edgekit.runs.store import Store

torch = pytest.importorskip("torch")

NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, shape=(1, 20, 20), classes=4, mean=(0,), std=(1,), widths=()):
        super().__init__()
        self.linear = torch.nn.Linear(400, classes)

    def forward(self, x):
        return self.linear(x.flatten(1))


def make():
    return Net(), torch.zeros(1, 1, 20, 20)


def wrong():
    return Net(shape=3, depth=1)
"""

COLOURS = """
import torch


class Net(torch.nn.Module):
    def __init__(self, channels=3, classes=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 4, 3, stride=4)
        self.linear = torch.nn.Linear(4, classes)

    def forward(self, x):
        return self.linear(self.conv(x).mean((2, 3)))


class Timm(Net):
    num_classes = 4
    pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2),
                      "num_classes": 4, "label_names": ["a", "b", "c", "d"]}


def make():
    return Net(), torch.zeros(1, 3, 32, 32)


def gray():
    return Net(1), torch.zeros(1, 1, 32, 32)


def carries():
    return Timm(), torch.zeros(1, 3, 32, 32)


def contradicts():
    return Timm(), torch.zeros(1, 3, 48, 48)


def table():
    return {"input": [{"kind": "image"}], "output": [{"kind": "logits", "classes": list("wxyz")}]}
"""

SIGNATURE = """
[[input]]
kind = "image"
resize = {mode = "shortest", size = 36}
crop = 32
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[[output]]
kind = "logits"
classes = ["cat", "dog", "big bird", "fish"]
"""
WORDS = (
    "image 32x32 RGB, shorter side to 36 (bilinear), centre crop 32x32, times 1/255, mean 0.485 0.456 0.406, "
    "std 0.229 0.224 0.225; logits of 4 classes (cat, dog, big bird, …)"
)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_code_of_ones_own(cli: Callable[..., Ended], net: Path) -> None:
    """It is run, that is said, and the run it goes to is the file's name."""
    ended = cli("import", "net.py:make")
    assert (ended.code, ended.out) == (0, "runs/net/torch\n"), ended.err
    assert "your own code: net.py:make" in ended.err
    again = cli("import", "net.py:make")
    assert "reused    torch" in again.err
    (net / "net.py").write_text(NET.replace("Linear(400", "Linear(400, 4, 5, 6, 7, 8"))
    changed = cli("import", "net.py:make", "--json")
    assert changed.code == 2 and "TypeError" in changed.json["error"]["why"]


def test_files(cli: Callable[..., Ended], bars_made: Path, tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(4, 2), (torch.ones(1, 4),))
    torch.export.save(program, tmp_path / "small.pt2")
    (tmp_path / "mine.onnx").write_bytes((bars_made / "onnx" / "model.onnx").read_bytes())
    for name, format in (("small.pt2", "torch"), ("mine.onnx", "onnx")):
        ended = cli("import", name, "--out", "run", "--json")
        assert ended.code == 0, ended.err
        assert [(a["name"], a["kind"]) for a in ended.json["artifacts"]] == [(format, format)]
    assert set(Store(tmp_path / "run").names()) == {"torch", "onnx"}


def test_what_it_is_for(cli: Callable[..., Ended], bars_made: Path, net: Path) -> None:
    """With a task, its own data is there for every command after; its networks are built by name."""
    weights = bars_made / "torch" / "model.safetensors"
    ended = cli("import", "cnn", "--task", "bars", "--weights", weights)
    assert ended.code == 0, ended.err
    assert "val accuracy" in ended.err
    assert Store(net / "runs" / "cnn").get("torch").task == "bars"
    shown = cli("import", "net.py:make", "--task", "bars", "--out", "mine")
    assert shown.code == 0 and "val accuracy" in shown.err, shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.py:wrong",), "TypeError"),
        (("net.py:nothing",), "net.py defines no 'nothing'"),
        (("nets.py:make",), "there is no file nets.py"),
        (("nothing",), "neither a run nor an artifact"),
        (("absent.pt2",), "no such file"),
        (("absent.keras",), "no such file"),
        (("absent.onnx",), "no such file"),
        (("cnn",), "cnn needs a task"),
        (("cnn", "--task", "bars"), "cnn comes without weights"),
        (("cnn", "--task", "bars", "--weights", "absent.pt"), "no such file"),
        (("net.py:make", "--weights", "net.py"), "not a checkpoint of plain weights"),
        (("net.py:make", "--task", "brs"), "brs"),
        (("absent.pt2", "--weights", "w.pt"), "contains its weights"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_imported(
    words: tuple[str, ...],
    said: str,
    net: Path,
    members: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(net)
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = main(["import", *words])
    ended = Ended(code, *capsys.readouterr())
    assert code == 2
    assert said in ended.line
    assert not Store(net / "runs" / "net").names()


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(COLOURS)
    (tmp_path / "sig.toml").write_text(SIGNATURE)
    return tmp_path


@pytest.mark.slow
def test_a_signature_goes_with_the_model(cli: Callable[..., Ended], colours: Path) -> None:
    """Into the run, into what is made from it, and from such a file into another run."""
    ended = cli("import", "net.py:make", "--signature", "sig.toml", "--out", "run")
    assert ended.code == 0, ended.err
    assert f"  signature from --signature: {WORDS}\n" in ended.err
    exported = cli("export", "run/torch", "--to", "onnx")
    assert exported.code == 0, exported.err
    shown = cli("inspect", "run/onnx/model.onnx", "--json").json["result"]
    assert shown["outputs"][0]["signature"]["classes"] == ["cat", "dog", "big bird", "fish"]
    assert shown["inputs"][0]["signature"]["crop"] == 32
    assert "shorter side to 36" in cli("inspect", "run/onnx").out
    again = cli("import", "run/onnx/model.onnx", "--out", "other")
    assert f"  signature from edgekit's metadata: {WORDS}\n" in again.err
    assert Store(colours / "other").get("onnx").signature == Store(colours / "run").get("onnx").signature
    before = Store(colours / "other").get("onnx").id
    cli("import", "run/onnx/model.onnx", "--out", "other", "--signature", "net.py:table")
    artifact = Store(colours / "other").get("onnx")
    assert artifact.id != before and artifact.signature.classes == ("w", "x", "y", "z")
    assert (artifact.path / "model.onnx").read_bytes() == (colours / "run/onnx/model.onnx").read_bytes()


def test_a_network_says_what_it_is(cli: Callable[..., Ended], colours: Path) -> None:
    ended = cli("import", "net.py:carries", "--out", "a")
    assert "signature from the network's pretrained_cfg: image 32x32 RGB, shorter side to 36" in ended.err, ended.err
    assert Store(colours / "a").get("torch").signature.classes == ("a", "b", "c", "d")
    (colours / "input.toml").write_text(SIGNATURE.partition("[[output]]")[0])
    ended = cli("import", "net.py:carries", "--signature", "input.toml", "--out", "a")
    assert "signature from --signature and the network's pretrained_cfg: image 32x32" in ended.err, ended.err
    assert Store(colours / "a").get("torch").signature.classes == ("a", "b", "c", "d")
    ended = cli("import", "net.py:contradicts", "--out", "b")
    assert ended.code == 0
    assert "note: no signature: the network's pretrained_cfg contradicts the model: its images become 32" in ended.err
    ended = cli("import", "net.py:make", "--out", "c")
    assert "note: no signature: nothing says what its inputs are made from; give --signature FILE" in ended.err


@pytest.mark.slow
def test_a_recipe_names_a_signature(cli: Callable[..., Ended], colours: Path, bars_made: Path) -> None:
    (colours / "mine.onnx").write_bytes((bars_made / "onnx" / "model.onnx").read_bytes())
    text = """task = "bars"
    [[chain]]
    steps = [{step = "import_onnx", path = "mine.onnx", signature = "sig.toml"}]
    """
    (colours / "recipe.toml").write_text(text)
    (colours / "sig.toml").write_text('[[output]]\nkind = "logits"\nclases = ["a"]\nnames = 3\n')
    ended = cli("run", "recipe.toml", "--out", "run")
    assert ended.code == 2 and "did you mean classes" in ended.err and "'names'" in ended.err, ended.err
    (colours / "sig.toml").write_text('[[output]]\nkind = "probabilities"\n')
    assert cli("run", "recipe.toml", "--out", "run").code == 0
    first = Store(colours / "run").get("onnx")
    assert first.outputs[0].signature is not None and first.outputs[0].signature.kind == "probabilities"
    (colours / "sig.toml").write_text('[[output]]\nkind = "logits"\n')
    assert cli("run", "recipe.toml", "--out", "run").code == 0
    assert Store(colours / "run").get("onnx").id != first.id


def test_transforms_of_torchvision(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torchvision()
    monkeypatch.chdir(colours)
    monkeypatch.setattr(sys, "path", [*sys.path])
    good = "t.Compose([t.Resize(32), t.CenterCrop(32), t.ToTensor()])"
    text = f"from torchvision import transforms as t\ngood = {good}\nbad = t.RandomHorizontalFlip()\n"
    (colours / "data.py").write_text(text)
    code = main(["import", "net.py:make", "--signature", "data.py:good"])
    ended = Ended(code, *capsys.readouterr())
    assert "image 32x32 RGB, shorter side to 32 (bilinear), centre crop 32x32, times 1/255\n" in ended.err, ended.err
    assert "your own code: data.py:good" in ended.err
    code = main(["import", "net.py:make", "--signature", "data.py:bad"])
    ended = Ended(code, *capsys.readouterr())
    assert code == 2 and "RandomHorizontalFlip cannot be expressed: it is for training" in ended.line
    assert "name the transform of validation" in ended.err


@pytest.mark.parametrize(
    ("source", "signature", "said"),
    [
        ("make", "", "names no signature"),
        ("make", "absent.toml", "no such file"),
        ("make", "corp = 32", "unknown key 'corp'"),
        ("gray", SIGNATURE, "mean has 3 values, and x: float32[?, 1, 32, 32] has 1 channel(s)"),
        ("make", SIGNATURE.replace(', "fish"', ""), "it names 3 classes, and output: float32[?, 4] has 4"),
        ("make", SIGNATURE.replace("crop = 32", "crop = 24"), "its images become 24 x 24 (height x width), and x"),
        ("make", SIGNATURE + '[[output]]\nkind = "logits"\n', "1 more than the model's 1"),
    ],
)
def test_signatures_that_do_not_fit(
    source: str,
    signature: str,
    said: str,
    colours: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(colours)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = {"": "nothing", "absent.toml": "absent.toml"}.get(signature, "sig.toml")
    if name == "sig.toml":
        (colours / name).write_text(signature)
    code = main(["import", f"net.py:{source}", "--signature", name])
    ended = Ended(code, *capsys.readouterr())
    assert code == 2 and said in ended.err, ended.err
    assert not Store(colours / "runs" / "net").names()


@pytest.mark.slow
def test_training_a_network_of_ones_own(cli: Callable[..., Ended], net: Path) -> None:
    """A network that the task does not know, built with the task's arguments."""
    ended = cli("train", "bars", "--model", "net.py:Net", "--epochs", 1, "--out", "run")
    assert (ended.code, ended.out) == (0, "run/net.torch\n"), ended.err
    exported = cli("export", "run/net.torch", "--to", "onnx")
    assert exported.code == 0 and "dB against net.torch" in exported.err, exported.err
