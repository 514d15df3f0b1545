"""`edgekit import`: every kind of foreign model into a run, and what is said where it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended

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


@pytest.mark.slow
def test_training_a_network_of_ones_own(cli: Callable[..., Ended], net: Path) -> None:
    """A network that the task does not know, built with the task's arguments."""
    ended = cli("train", "bars", "--model", "net.py:Net", "--epochs", 1, "--out", "run")
    assert (ended.code, ended.out) == (0, "run/net.torch\n"), ended.err
    exported = cli("export", "run/net.torch", "--to", "onnx")
    assert exported.code == 0 and "dB against net.torch" in exported.err, exported.err
